"""What the kubernetes stand-in shows as changed, replaced, or not at all."""

from typing import Any

import pytest

from sandbox.providers import kubernetes_diff as kd
from sandbox.providers.differences import Path, PropertyChange, property_path


def deployment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1", "resources": {"limits": {"cpu": "0.5"}}}]},
            },
            **spec,
        },
    }


def live(inputs: dict[str, Any]) -> dict[str, Any]:
    """As an API server answers: defaults filled in, quantities in its own writing."""
    spec = inputs["spec"]
    container = {**spec["template"]["spec"]["containers"][0], "imagePullPolicy": "IfNotPresent"}
    container["resources"] = {"limits": {"cpu": "500m"}}
    template = {**spec["template"], "spec": {"containers": [container], "restartPolicy": "Always"}}
    return {**inputs, "spec": {**spec, "template": template, "progressDeadlineSeconds": 600}, "status": {"replicas": 1}}


def test_a_quantity_that_changes_stays_after_a_dry_run() -> None:
    inputs, predicted = deployment(), live(deployment())
    predicted["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "1"
    found = kd.differences(kd.prune(live(inputs), inputs), inputs)
    assert len(kd.without_invisible(found, live(inputs), predicted)) == 1


def test_an_entry_under_another_key_stays_where_the_dry_run_puts_it_beside_the_old_one() -> None:
    old, new = ({"spec": {"ports": [{"name": f"http-{port}", "port": port}]}} for port in (80, 8080))
    predicted = {"spec": {"ports": [*old["spec"]["ports"], *new["spec"]["ports"]]}}
    found = kd.differences(old, new)
    assert len(found) == 2
    assert kd.without_invisible(found, old, predicted) == found


IMAGE: Path = ("spec", "template", "spec", "containers", 0, "image")
RESOURCES: Path = ("spec", "template", "spec", "containers", 0, "resources")


@pytest.mark.parametrize(
    ("path", "value", "kind", "replaces"),
    [
        (IMAGE, "web:2", "update", False),
        (RESOURCES, None, "delete", False),
        (("spec", "replicas"), 3, "update", False),
        (("spec", "paused"), True, "add", False),
        (("spec", "selector", "matchLabels", "app"), "other", "update", True),
        (("metadata", "name"), "other", "update", True),
        (("metadata", "namespace"), "other", "update", True),
    ],
)
def test_a_change_of_a_deployment_is_named_by_its_path(path: Path, value: Any, kind: Any, replaces: bool) -> None:
    new = deployment()
    parent: Any = new
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    inputs = deployment()
    found = kd.without_unchanged_inputs(kd.differences(kd.prune(live(inputs), inputs), kd.normalized(new)), inputs, kd.normalized(new))
    assert found == [PropertyChange(path, kind, replaces)]


@pytest.mark.parametrize(
    ("kind", "old", "new", "replaces"),
    [
        ("Secret", {"data": {"k": "b2xk"}}, {"data": {"k": "bmV3"}}, True),
        ("ConfigMap", {"data": {"k": "old"}}, {"data": {"k": "new"}}, True),
        ("Service", {}, {"spec": {"clusterIP": "None"}}, True),
        ("Service", {}, {"spec": {"type": "LoadBalancer"}}, False),
    ],
)
def test_what_replaces_an_object_depends_on_its_kind(kind: str, old: dict[str, Any], new: dict[str, Any], replaces: bool) -> None:
    named = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}}
    assert [each.replaces for each in kd.differences({**named, **old}, {**named, **new})] == [replaces]


@pytest.mark.parametrize("text", ["spec.containers[0].image", 'metadata.annotations["pulumi.com/skipAwait"]'])
def test_property_paths_are_read_as_the_engine_writes_them(text: str) -> None:
    assert property_path(kd.parse_path(text)) == text


@pytest.mark.parametrize("text", ["spec[", "a[*].b", ""])
def test_a_path_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a property path"):
        kd.parse_path(text)


def test_ignored_properties_and_what_is_below_do_not_show() -> None:
    found = kd.differences({"a": [{"b": 1}], "c": 1}, {"a": [{"b": 2}], "c": 2})
    assert kd.without_ignored(found, [("a", 0)]) == [PropertyChange(("c",), "update")]


# --- managed fields


def entry(manager: str, operation: str, fields: dict[str, Any], subresource: str = "") -> dict[str, Any]:
    found = {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}
    return {**found, "subresource": subresource} if subresource else found


def test_an_ignored_field_of_another_manager_is_left_out_and_ones_own_keeps_its_live_value() -> None:
    theirs = {"spec": {"replicas": 3}, "metadata": {"managedFields": [entry("scaler", "Update", {"f:spec": {"f:replicas": {}}}, "scale")]}}
    assert kd.with_ignored(deployment(), theirs, [("spec", "replicas")], "mine")["spec"].get("replicas") is None
    mine = {"spec": {"replicas": 3}, "metadata": {"managedFields": [entry("mine", "Apply", {"f:spec": {"f:replicas": {}}})]}}
    assert kd.with_ignored(deployment(), mine, [("spec", "replicas")], "mine")["spec"]["replicas"] == 3
