"""What the kubernetes stand-in shows as changed, replaced, or not at all."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from sandbox.providers import kubernetes_diff as kd
from sandbox.providers.differences import Path, PropertyChange, property_path
from sandbox.providers.kubernetes_diff import ANY_INDEX


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


def changes(inputs: dict[str, Any], new: dict[str, Any]) -> dict[str, PropertyChange]:
    found = kd.differences(kd.prune(live(inputs), inputs), new, kd.force_new_paths(new))
    return {property_path(change.path): change for change in found}


def test_server_defaults_are_no_difference() -> None:
    inputs = deployment()
    inputs["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "500m"}}
    assert changes(inputs, inputs) == {}


def test_a_quantity_that_the_server_writes_otherwise_vanishes_with_its_dry_run() -> None:
    inputs = deployment()
    found = kd.differences(kd.prune(live(inputs), inputs), inputs)
    assert [property_path(each.path) for each in found] == ["spec.template.spec.containers[0].resources.limits.cpu"]
    assert kd.without_invisible(found, live(inputs), live(inputs)) == []


def test_a_quantity_that_changes_stays_after_a_dry_run() -> None:
    inputs, predicted = deployment(), live(deployment())
    predicted["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "1"
    found = kd.differences(kd.prune(live(inputs), inputs), inputs)
    assert len(kd.without_invisible(found, live(inputs), predicted)) == 1


def test_without_a_cluster_inputs_given_as_before_are_no_difference() -> None:
    inputs = deployment()
    new = deployment(replicas=2)
    found = kd.differences(kd.prune(live(inputs), inputs), new)
    assert [property_path(each.path) for each in kd.without_unchanged_inputs(found, inputs, new)] == ["spec.replicas"]


def test_a_changed_image_is_named_by_its_path_and_updates_in_place() -> None:
    inputs, new = deployment(), deployment()
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
    assert changes(inputs, new)["spec.template.spec.containers[0].image"] == PropertyChange(
        ("spec", "template", "spec", "containers", 0, "image"), "update", replaces=False
    )


def test_a_second_container_is_an_addition_and_a_dropped_field_a_deletion() -> None:
    inputs, new = deployment(), deployment()
    new["spec"]["template"]["spec"]["containers"].append({"name": "side"})
    del new["spec"]["template"]["spec"]["containers"][0]["resources"]
    found = changes(inputs, new)
    assert found["spec.template.spec.containers[1]"].kind == "add"
    assert found["spec.template.spec.containers[0].resources"].kind == "delete"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "selector", "matchLabels", "app"), "other"),
        (("metadata", "name"), "other"),
        (("metadata", "namespace"), "other"),
    ],
)
def test_identity_and_selector_of_a_deployment_replace_it(path: tuple[str, ...], value: str) -> None:
    new = deployment()
    parent: Any = new
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    assert changes(deployment(), new)[".".join(path)].replaces


def test_the_replica_count_replaces_nothing() -> None:
    assert not changes(deployment(), deployment(replicas=3))["spec.replicas"].replaces


def test_a_new_branch_that_holds_a_fixed_property_replaces() -> None:
    old = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    new = {**old, "spec": {"clusterIP": "None"}}
    assert [each.replaces for each in kd.differences(old, new, kd.force_new_paths(new))] == [True]
    assert [each.replaces for each in kd.differences(old, {**old, "spec": {}}, kd.force_new_paths(new))] == [False]


def test_a_service_type_changes_in_place() -> None:
    old = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"type": "ClusterIP"}}
    new = {**old, "spec": {"type": "LoadBalancer"}}
    assert [each.replaces for each in kd.differences(old, new, kd.force_new_paths(new))] == [False]


@pytest.mark.parametrize(
    ("kind", "mutable", "immutable", "replaces"),
    [
        ("Secret", False, False, True),
        ("Secret", True, False, False),
        ("Secret", True, True, True),
        ("ConfigMap", False, False, True),
        ("ConfigMap", True, False, False),
    ],
)
def test_contents_replace_unless_declared_mutable(kind: str, mutable: bool, immutable: bool, replaces: bool) -> None:
    old = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, "data": {"k": "b2xk"}, "immutable": immutable}
    new = {**old, "data": {"k": "bmV3"}}
    fixed = kd.force_new_paths(new, secrets_mutable=mutable, config_maps_mutable=mutable)
    assert [each.replaces for each in kd.differences(old, new, fixed)] == [replaces]


def test_any_containers_image_replaces_a_pod() -> None:
    old = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"image": "1"}]}}
    new = {**old, "spec": {"containers": [{"image": "2"}]}}
    assert [each.replaces for each in kd.differences(old, new, kd.force_new_paths(new))] == [True]


def test_true_is_not_one_and_one_is_one_point_zero() -> None:
    assert kd.differences({"a": 1}, {"a": 1.0}) == []
    assert kd.differences({"a": 1}, {"a": True}) == [PropertyChange(("a",), "update")]


def test_string_data_of_a_secret_becomes_data_and_read_only_metadata_goes() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "uid": "u", "labels": None},
        "data": {"a": "YQ=="},
        "stringData": {"token": "hush"},
    }
    assert kd.normalized(secret) == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"a": "YQ==", "token": base64.b64encode(b"hush").decode()},
    }


def test_line_breaks_inside_encoded_secrets_do_not_show() -> None:
    wrapped = base64.encodebytes(b"x" * 90).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": wrapped, "bad": "%"}}
    assert kd.normalized(secret)["data"] == {"k": base64.b64encode(b"x" * 90).decode(), "bad": "%"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("spec", "containers", 0, "image"), "spec.containers[0].image"),
        (("metadata", "annotations", "pulumi.com/skipAwait"), 'metadata.annotations["pulumi.com/skipAwait"]'),
    ],
)
def test_property_paths_are_read_as_the_engine_writes_them(path: Path, text: str) -> None:
    assert property_path(path) == text
    assert kd.parse_path(text) == path


def test_a_path_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a property path"):
        kd.parse_path("spec[")


def test_ignored_properties_and_what_is_below_do_not_show() -> None:
    found = kd.differences({"a": [{"b": 1}, {"b": 1}], "c": 1}, {"a": [{"b": 2}, {"b": 3}], "c": 2})
    assert kd.without_ignored(found, [kd.parse_path("a[*].b")]) == [PropertyChange(("c",), "update")]
    assert kd.without_ignored(found, [("c",), ("a",)]) == []
    assert kd.parse_path("a[*].b") == ("a", ANY_INDEX, "b")


# --- managed fields


def entry(manager: str, operation: str, fields: dict[str, Any], subresource: str = "") -> dict[str, Any]:
    found = {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields}
    return {**found, "subresource": subresource} if subresource else found


def test_the_applying_manager_takes_over_what_creation_set() -> None:
    created = entry("pulumi-kubernetes", "Update", {"f:spec": {"f:replicas": {}, ".": {}}})
    own = entry("mine", "Apply", {"f:spec": {"f:paused": {}}})
    status = entry("kube-controller-manager", "Update", {"f:status": {}}, "status")
    taken = kd.taken_over([created, status, own], "mine")
    assert taken == [entry("mine", "Apply", {"f:spec": {"f:replicas": {}, "f:paused": {}, ".": {}}}), status]


def test_the_replica_count_of_kubectl_scale_is_not_taken_over() -> None:
    assert kd.taken_over([entry("kubectl", "Update", {"f:spec": {"f:replicas": {}}}, "scale")], "mine") is None


def test_an_ignored_field_of_another_manager_is_left_out_and_ones_own_keeps_its_live_value() -> None:
    theirs = {
        "spec": {"replicas": 3},
        "metadata": {"managedFields": [entry("scaler", "Update", {"f:spec": {"f:replicas": {}}}, "scale")]},
    }
    assert kd.with_ignored(deployment(), theirs, [("spec", "replicas")], "mine")["spec"].get("replicas") is None
    mine = {
        "spec": {"replicas": 3},
        "metadata": {"managedFields": [entry("mine", "Apply", {"f:spec": {"f:replicas": {}}})]},
    }
    assert kd.with_ignored(deployment(), mine, [("spec", "replicas")], "mine")["spec"]["replicas"] == 3
