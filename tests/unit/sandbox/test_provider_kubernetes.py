"""The kubernetes stand-in, operation by operation, on a cluster that is a dictionary."""

import base64
import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from kubernetes.client.rest import ApiException

from sandbox.providers import kubernetes as k8s
from sandbox.providers.kubernetes import Clusters, KubernetesProvider
from sandbox.providers.kubernetes_client import (
    BrokenRequestError,
    ClusterUnreachableError,
    Kubeconfig,
    KubernetesApiError,
    UnknownKindError,
)
from sandbox.providers.server import Change, PartialFailureError, ProviderError, Urn
from sandbox.providers.wire import UNKNOWN, Secret

TOKEN = "hf_very_secret"


def refusal(code: int, reason: str, message: str, **details: Any) -> KubernetesApiError:
    answer = ApiException(status=code, reason=reason)
    answer.body = json.dumps({"message": message, "reason": reason, "details": details})
    return KubernetesApiError(answer)


class Served:
    def __init__(self, namespaced: bool) -> None:
        self.namespaced = namespaced


class MemoryCluster:
    """Keeps objects; fills in what a server would, and writes a CPU's "0.5" as "500m"."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str | None, str], dict[str, Any]] = {}
        self.cluster_scoped = {"Namespace", "ComputeClass"}
        self.unknown_kinds: set[str] = set()
        self.refusals: list[Exception] = []
        self.calls: list[tuple[str, bool]] = []
        self.unreachable = False

    def check(self) -> None:
        if self.unreachable:
            raise ClusterUnreachableError("connection refused")

    def resource(self, api_version: str, kind: str) -> Served:
        if kind in self.unknown_kinds:
            raise UnknownKindError(api_version, kind)
        return Served(kind not in self.cluster_scoped)

    def get(self, api_version: str, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get((kind, namespace, name)))

    def list_objects(self, *_: Any) -> list[dict[str, Any]]:
        return []

    def apply(self, body: dict[str, Any], *, manager: str, force: bool, dry_run: bool = False) -> dict[str, Any]:
        entry = {"manager": manager, "operation": "Apply", "fieldsV1": {}}
        return self.write(body, "force" if force else "apply", dry_run, entry)

    def delete(self, api_version: str, kind: str, namespace: str | None, name: str, propagation: str) -> bool:
        if kind in self.unknown_kinds:
            raise UnknownKindError(api_version, kind)
        return self.objects.pop((kind, namespace, name), None) is not None

    def write(self, body: dict[str, Any], verb: str, dry_run: bool, entry: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((verb, dry_run))
        if self.refusals:
            raise self.refusals.pop(0)
        live: dict[str, Any] = json.loads(json.dumps(body).replace('"0.5"', '"500m"'))
        live["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": [entry]}
        live["status"] = {}
        if body["kind"] == "Deployment":
            live["spec"].setdefault("progressDeadlineSeconds", 600)
        if not dry_run:
            self.objects[self.key(body)] = copy.deepcopy(live)
        return live

    @staticmethod
    def key(body: Mapping[str, Any]) -> tuple[str, str | None, str]:
        return body["kind"], body["metadata"].get("namespace"), body["metadata"]["name"]


class MemoryClusters(Clusters):
    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__()
        self.cluster = cluster

    def client(self, kubeconfig: Kubeconfig) -> Any:
        self.cluster.check()
        return self.cluster


def kubeconfig(server: str = "https://one", token: str = "t") -> str:
    return json.dumps(
        {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
def provider(cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch) -> KubernetesProvider:
    monkeypatch.setattr(k8s, "_CREATE_RETRIES", (0.0, 0.0))
    made = KubernetesProvider(MemoryClusters(cluster))
    made.configure({}, {"kubeconfig": Secret(kubeconfig())})
    return made


def urn(token: str, name: str = "thing") -> Urn:
    return Urn(f"urn:pulumi:s::p::{token}::{name}")


SECRET = urn("kubernetes:core/v1:Secret", "hf")
CONFIG_MAP = urn("kubernetes:core/v1:ConfigMap", "settings")
DEPLOYMENT = urn("kubernetes:apps/v1:Deployment", "web")
SERVICE = urn("kubernetes:core/v1:Service", "web")
CLASS = urn("kubernetes:cloud.google.com/v1:ComputeClass", "class")


def secret(value: str = TOKEN, name: str | None = "hf-secret") -> dict[str, Any]:
    metadata = {"name": name} if name else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": Secret({"token": value})}


def config_map(value: str = "1", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}}


def deployment(**annotations: str) -> dict[str, Any]:
    container = {"name": "web", "image": "web:1", "resources": {"limits": {"cpu": "0.5"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "annotations": {f"pulumi.com/{name}": value for name, value in annotations.items()}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
        },
    }


class Made:
    """A resource as the engine keeps it, and what it asks of a provider in its place."""

    def __init__(self, provider: KubernetesProvider, of: Urn, program: dict[str, Any]) -> None:
        self.provider, self.urn = provider, of
        self.inputs = self.checked(program, None)
        created = provider.create(of, dict(self.inputs), None, False)
        self.id, self.outputs = created.id, dict(created.outputs)

    def checked(self, program: dict[str, Any], olds: dict[str, Any] | None) -> dict[str, Any]:
        result = self.provider.check(self.urn, olds, program, b"seed")
        assert not result.failures
        return dict(result.inputs)

    def diff(self, program: dict[str, Any], ignore: tuple[str, ...] = ()) -> Any:
        return self.provider.diff(self.change(program, ignore_changes=ignore))

    def update(self, program: dict[str, Any], *, preview: bool = False) -> dict[str, Any]:
        return self.provider.update(self.change(program, preview=preview))

    def change(self, program: dict[str, Any], **how: Any) -> Change:
        new = self.checked(program, self.inputs)
        return Change(urn=self.urn, id=self.id, old_inputs=self.inputs, old_outputs=self.outputs, new_inputs=new, **how)

    def delete(self) -> None:
        self.provider.delete(self.urn, self.id, self.inputs, self.outputs, None)


def changed(difference: Any) -> dict[str, tuple[str, bool]]:
    return {each.property_path: (each.kind, each.replaces) for each in difference.changes}


# --- check


def test_an_unnamed_object_gets_a_name_of_its_seed_and_keeps_it(provider: KubernetesProvider) -> None:
    first = provider.check(CONFIG_MAP, None, config_map(), b"seed").inputs
    assert first == provider.check(CONFIG_MAP, None, config_map(), b"seed").inputs
    name = first["metadata"]["name"]
    assert name.startswith("settings-")
    assert len(name) == len("settings-") + 8
    assert first["metadata"]["annotations"] == {"pulumi.com/autonamed": "true"}
    again = provider.check(CONFIG_MAP, dict(first), config_map("2"), b"other").inputs
    assert again["metadata"] == first["metadata"]


@pytest.mark.parametrize(
    ("of", "given", "expected"),
    [
        (CONFIG_MAP, "fixed", {"name": "fixed", "namespace": "default"}),
        # A name that is not known yet counts as given.
        (CONFIG_MAP, UNKNOWN, {"name": UNKNOWN, "namespace": "default"}),
        (CLASS, "fixed", {"name": "fixed"}),
    ],
)
def test_a_name_of_the_program_is_kept_and_a_namespace_filled_in_where_there_is_one(
    provider: KubernetesProvider, of: Urn, given: Any, expected: dict[str, Any]
) -> None:
    assert provider.check(of, None, {"metadata": {"name": given}}, b"").inputs["metadata"] == expected


MISSPELT = deployment()
MISSPELT["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"
WAITING = config_map(name="a", annotations={"pulumi.com/waitFor": "jsonpath={.data}", "pulumi.com/skipAwait": "true"})


@pytest.mark.parametrize(
    ("of", "program", "path", "reason"),
    [
        (DEPLOYMENT, MISSPELT, "spec.template.spec.containers[0].imagePullPolcy", "did you mean imagePullPolicy"),
        (SECRET, {**secret(), "stringData": {"token": 123456}}, "stringData.token", "the secret value is not of the type"),
        (CONFIG_MAP, WAITING, 'metadata.annotations["pulumi.com/waitFor"]', "this stand-in knows only"),
        (urn("kubernetes:helm.sh/v3:Release"), {}, "", "Declare the objects themselves"),
        (urn("kubernetes:apps/v1:DeploymentPatch"), {}, "", "Manage the whole object"),
    ],
)
def test_what_the_stand_in_cannot_make_is_refused_with_the_place_and_the_fix(
    provider: KubernetesProvider, of: Urn, program: dict[str, Any], path: str, reason: str
) -> None:
    (failure,) = provider.check(of, None, program, b"").failures
    assert failure.property == path
    assert reason in failure.reason
    assert "123456" not in failure.reason


# --- create


def test_a_plan_for_a_missing_cluster_is_the_programs_own_input(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    provider.configure({}, {"kubeconfig": UNKNOWN})
    planned = provider.create(CONFIG_MAP, config_map(name="a"), None, True)
    assert planned.outputs == config_map(name="a")
    cluster.unreachable = True
    provider.configure({}, {"kubeconfig": kubeconfig()})
    assert provider.create(CONFIG_MAP, config_map(name="a"), None, True).outputs == config_map(name="a")
    assert cluster.calls == []


@pytest.mark.parametrize(
    "obstacle",
    [refusal(403, "Forbidden", "no"), refusal(404, "NotFound", 'namespaces "a" not found', kind="namespaces")],
    ids=["forbidden", "namespace to come"],
)
def test_a_plan_that_cannot_be_tried_is_the_programs_own_input(
    provider: KubernetesProvider, cluster: MemoryCluster, obstacle: Exception
) -> None:
    cluster.refusals = [obstacle]
    assert provider.create(CONFIG_MAP, config_map(name="a"), None, True).outputs == config_map(name="a")


def test_a_plan_for_the_successor_of_what_is_still_there_has_nothing_of_that(provider: KubernetesProvider) -> None:
    Made(provider, CONFIG_MAP, config_map(name="a"))
    inputs = dict(provider.check(CONFIG_MAP, None, config_map("2", name="a"), b"seed").inputs)
    assert "uid" not in provider.create(CONFIG_MAP, inputs, None, True).outputs["metadata"]


def test_a_made_object_is_in_the_state_whole_and_its_secrets_are_marked(provider: KubernetesProvider) -> None:
    made = Made(provider, SECRET, secret())
    assert made.id == "default/hf-secret"
    assert isinstance(made.outputs["data"], Secret)
    assert isinstance(made.outputs["__inputs"]["data"], Secret)
    assert made.outputs["metadata"]["uid"] == "u"
    assert TOKEN not in repr(made.outputs)
    program = deployment(skipAwait="true")
    program["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "T", "value": Secret(TOKEN)}]
    assert TOKEN not in repr(Made(provider, DEPLOYMENT, program).outputs)
    assert base64.b64encode(TOKEN.encode()).decode() not in repr(made.outputs)


def test_creation_waits_for_a_namespace_that_is_made_beside_it(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    cluster.refusals = [refusal(404, "NotFound", 'namespaces "default" not found', kind="namespaces")]
    assert Made(provider, CONFIG_MAP, config_map(name="a")).id == "default/a"


def test_the_servers_quotation_of_a_secret_is_hidden(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    cluster.refusals = [refusal(422, "Invalid", f'data.a: Invalid value: "{TOKEN}": too long')]
    program = {**config_map(name="a"), "data": {"a": Secret(TOKEN)}}
    with pytest.raises(ProviderError, match=r'Invalid value: "\[secret\]": too long'):
        Made(provider, CONFIG_MAP, program)


def test_an_object_that_does_not_become_live_is_saved_with_the_reasons(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    with pytest.raises(PartialFailureError) as caught:
        provider.create(SERVICE, load_balancer(), 0.01, False)
    assert caught.value.id == "default/lb"
    assert caught.value.outputs["metadata"]["uid"] == "u"
    assert "'lb' timed out waiting to be Ready" in caught.value.reasons[0]
    assert "not allocated an IP address" in caught.value.reasons[1]


def load_balancer() -> dict[str, Any]:
    metadata = {"name": "lb", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "LoadBalancer"}}


def test_what_cannot_be_made_is_told_with_the_fix(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    cluster.apply(config_map("theirs", name="a", namespace="default"), manager="kubectl", force=False)
    with pytest.raises(ProviderError, match="exists already and is not this stack's.*pulumi import"):
        Made(provider, CONFIG_MAP, config_map(name="a"))
    provider.configure({}, {"kubeconfig": kubeconfig(), "upsertExistingObjects": "true"})
    assert Made(provider, CONFIG_MAP, config_map(name="a")).outputs["data"] == {"a": "1"}
    assert cluster.calls[-1] == ("apply", False)
    cluster.unknown_kinds = {"ComputeClass"}
    custom = {"apiVersion": "cloud.google.com/v1", "kind": "ComputeClass", "metadata": {"name": "c"}, "spec": {}}
    with pytest.raises(ProviderError, match=r"no matches for kind.*depends_on"):
        Made(provider, CLASS, custom)


# --- diff


@pytest.mark.parametrize(
    ("of", "program"),
    [(SECRET, secret()), (CONFIG_MAP, config_map()), (DEPLOYMENT, deployment(skipAwait="true"))],
    ids=["secret", "autonamed", "defaults and quantities"],
)
def test_an_unchanged_program_changes_nothing(
    provider: KubernetesProvider, cluster: MemoryCluster, of: Urn, program: dict[str, Any]
) -> None:
    made = Made(provider, of, program)
    assert changed(made.diff(program)) == {}
    cluster.unreachable = True
    assert changed(made.diff(program)) == {}


@pytest.mark.parametrize(
    ("of", "before", "after", "change", "goes_first"),
    [
        (SECRET, secret(), secret("another"), "data.token", True),
        (CONFIG_MAP, config_map(), config_map("2"), "data.a", False),
        (CONFIG_MAP, config_map(name="a"), config_map(name="b"), "metadata.name", False),
    ],
    ids=["fixed name", "autonamed", "another name"],
)
def test_an_object_goes_before_its_successor_only_where_both_would_have_one_name(
    provider: KubernetesProvider, of: Urn, before: dict[str, Any], after: dict[str, Any], change: str, goes_first: bool
) -> None:
    difference = Made(provider, of, before).diff(after)
    assert changed(difference) == {change: ("update", True)}
    assert difference.delete_before_replace is goes_first


def test_an_unknown_value_is_a_change_and_an_ignored_one_is_none(provider: KubernetesProvider) -> None:
    program = deployment(skipAwait="true")
    made = Made(provider, DEPLOYMENT, copy.deepcopy(program))
    program["spec"]["replicas"] = UNKNOWN
    assert changed(made.diff(program)) == {"spec.replicas": ("update", False)}
    program["spec"]["replicas"] = 5
    assert changed(made.diff(program, ("spec.replicas",))) == {}


# --- update


def test_a_conflict_is_told_with_the_fix(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    made = Made(provider, CONFIG_MAP, config_map(name="a"))
    causes = [{"reason": "FieldManagerConflict", "message": 'conflict with "kubectl"', "field": ".data.a"}]
    cluster.refusals = [
        refusal(409, "Conflict", 'conflict with "kubectl": .data.a', causes=causes),
        refusal(409, "Conflict", "the object has been modified"),
    ]
    with pytest.raises(ProviderError, match='conflict with "kubectl".*ignore_changes.*patchForce'):
        made.update(config_map("2", name="a"))
    # A change at the same moment is not taken for another manager's field.
    with pytest.raises(ProviderError, match="the object has been modified.*run `pulumi up` again$"):
        made.update(config_map("2", name="a"))


def test_an_update_of_what_is_gone_says_so(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    made = Made(provider, CONFIG_MAP, config_map(name="a"))
    cluster.objects.clear()
    with pytest.raises(ProviderError, match=r"no such object any more.*pulumi refresh"):
        made.update(config_map("2", name="a"))


# --- read and delete


def test_a_read_tells_drift_and_disappearance(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    made = Made(provider, CONFIG_MAP, config_map(name="a"))
    cluster.objects["ConfigMap", "default", "a"]["data"]["a"] = "drifted"
    read = provider.read(CONFIG_MAP, made.id, made.inputs, made.outputs)
    assert read is not None
    assert read.inputs["data"] == {"a": "drifted"}
    assert "uid" not in read.inputs["metadata"]
    cluster.objects.clear()
    assert provider.read(CONFIG_MAP, made.id, made.inputs, made.outputs) is None


def test_an_import_says_what_a_program_would(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    cluster.apply(config_map(name="a", namespace="default"), manager="kubectl", force=False)
    read = provider.read(CONFIG_MAP, "default/a", {}, {})
    assert read is not None
    assert read.inputs == config_map(name="a", namespace="default")


@pytest.mark.parametrize("gone", [lambda c: c.objects.clear(), lambda c: c.unknown_kinds.add("ConfigMap")])
def test_deleting_what_is_gone_is_fine(provider: KubernetesProvider, cluster: MemoryCluster, gone: Callable[[MemoryCluster], None]) -> None:
    made = Made(provider, CONFIG_MAP, config_map(name="a"))
    gone(cluster)
    made.delete()


def test_a_lost_cluster_is_an_error_with_the_fix(provider: KubernetesProvider, cluster: MemoryCluster) -> None:
    made = Made(provider, CONFIG_MAP, config_map(name="a"))
    cluster.unreachable = True
    with pytest.raises(ProviderError, match="cannot delete ConfigMap .*unreachable: connection refused.*pulumi state delete"):
        made.delete()
    with pytest.raises(ProviderError, match="failed to read ConfigMap .*unreachable: connection refused.*pulumi state delete"):
        provider.read(CONFIG_MAP, made.id, made.inputs, made.outputs)


# --- the provider resource

PROVIDER = urn("pulumi:providers:kubernetes", "p")


@pytest.mark.parametrize(
    ("new", "replaces"),
    [
        ({"kubeconfig": kubeconfig(token="new")}, False),
        ({"kubeconfig": kubeconfig(server="https://two")}, True),
        ({"kubeconfig": UNKNOWN}, True),
    ],
    ids=["token", "cluster", "unknown"],
)
def test_only_another_cluster_replaces_the_provider(provider: KubernetesProvider, new: dict[str, Any], replaces: bool) -> None:
    difference = provider.diff_config(PROVIDER, {"kubeconfig": Secret(kubeconfig())}, new)
    assert difference.changes
    assert any(each.replaces for each in difference.changes) is replaces


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"enableServerSideApply": "true", "version": "4.34.2"}, []),
        ({"enableServerSideApply": "false"}, ["enableServerSideApply"]),
        ({"namespace": "team"}, ["namespace"]),
    ],
)
def test_settings_that_the_stand_in_lacks_are_refused(provider: KubernetesProvider, config: dict[str, Any], refused: list[str]) -> None:
    config["kubeconfig"] = Secret(kubeconfig())
    assert [failure.property for failure in provider.check_config(PROVIDER, {}, config).failures] == refused
    assert provider.diff_config(PROVIDER, config, config).changes == ()


def test_a_connection_that_breaks_is_not_taken_for_a_cluster_that_is_gone(
    provider: KubernetesProvider, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(provider, CONFIG_MAP, config_map(name="a"))
    broken = BrokenRequestError("the connection to the API server broke: reset")

    def breaks(*_: object, **__: object) -> None:
        raise broken

    cluster.refusals = [broken]
    with pytest.raises(ProviderError, match="broke: reset.*--refresh"):
        made.update(config_map("2", name="a"))
    monkeypatch.setattr(cluster, "delete", breaks)
    with pytest.raises(ProviderError, match=r"cannot delete ConfigMap .*broke: reset\. Run the command again"):
        made.delete()
    monkeypatch.setattr(cluster, "get", breaks)
    with pytest.raises(ProviderError, match="failed to read ConfigMap .*broke: reset"):
        provider.read(CONFIG_MAP, made.id, made.inputs, made.outputs)
