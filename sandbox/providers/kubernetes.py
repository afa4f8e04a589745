"""A stand-in for pulumi-kubernetes 4.34 on the API server that the provider resource's kubeconfig reaches.

Objects are made and updated by server-side apply, with previews by dry run, and are waited for, as the real provider does it
(https://github.com/pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go and ../await/await.go). That one makes them by POST, and
takes the fields over before its first apply. The state has the same shape, so that the real plugin can take a stack over. The values in
between are worked out in `kubernetes_diff`, the waits in `kubernetes_await`, requests are made in `kubernetes_client`.

Left out, and refused with a message: settings of the provider that the program does not use, annotations of Pulumi's that the program
does not use, CustomResourceDefinitions, patch resources, Helm, Kustomize and YAML, functions and lists.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from sandbox.providers import kubernetes_await as waits
from sandbox.providers import kubernetes_diff as diffs
from sandbox.providers import sdk_types
from sandbox.providers.differences import Difference, Path, compare
from sandbox.providers.kubernetes_client import (
    BrokenRequestError,
    ClusterClient,
    ClusterUnreachableError,
    Kubeconfig,
    KubernetesApiError,
    Object,
    UnknownKindError,
)
from sandbox.providers.redaction import hiding
from sandbox.providers.server import (
    Change,
    Checked,
    CheckFailure,
    Created,
    PartialFailureError,
    Properties,
    Provider,
    ProviderError,
    ReadState,
    Urn,
)
from sandbox.providers.wire import Secret, has_unknown, keep_secrets, plain

#: The field manager of every apply; the real provider has one for each object.
_MANAGER: Final = "pulumi-kubernetes"

# Keys of the state beside the object's own.
_INPUTS: Final = "__inputs"
_FIELD_MANAGER: Final = "__fieldManager"
_API_VERSION: Final = "__initialApiVersion"

#: The provider's settings that are read; `enableServerSideApply` is true here, and the engine's own two mean nothing to a provider.
_SETTINGS: Final = frozenset({"kubeconfig", "upsertExistingObjects", "enableServerSideApply", "version", "pluginDownloadURL"})

_AUTONAMED: Final = "pulumi.com/autonamed"
_PATCH_FORCE: Final = "pulumi.com/patchForce"
_PROPAGATION: Final = "pulumi.com/deletionPropagationPolicy"
_TIMEOUT: Final = "pulumi.com/timeoutSeconds"
_ANNOTATIONS: Final = frozenset({_AUTONAMED, _PATCH_FORCE, _PROPAGATION, _TIMEOUT, waits.SKIP_AWAIT, waits.WAIT_FOR})

#: Seconds before each new try when a namespace or a kind is not there yet: what makes it may run at the same time.
_CREATE_RETRIES: Final = (1.0, 2.0, 4.0, 8.0)

#: Seconds for which a cluster that did not answer is not asked again.
_UNREACHABLE_SECONDS: Final = 5.0

#: The program's kinds without a namespace, for when the API server cannot be asked.
_CLUSTER_SCOPED: Final = frozenset({"APIService", "ClusterRole", "ClusterRoleBinding", "ComputeClass", "Namespace"})

_OTHER_PROGRAMS: Final = ("helm.sh/", "kustomize", "yaml", "apiextensions.k8s.io/")
_REAL_PLUGIN: Final = "put the real kubernetes plugin on PATH"


class Clusters:
    """The clients of all provider resources of this process, one for each kubeconfig."""

    def __init__(self) -> None:
        self._clients: dict[Kubeconfig, ClusterClient] = {}
        self._silent: dict[Kubeconfig, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def client(self, kubeconfig: Kubeconfig) -> ClusterClient:
        """A client of a cluster that answers. Raises `ClusterUnreachableError`, for a while without asking again."""
        with self._lock:
            until, reason = self._silent.get(kubeconfig, (0.0, ""))
            found = self._clients.setdefault(kubeconfig, ClusterClient(kubeconfig))
        if time.monotonic() < until:
            raise ClusterUnreachableError(reason)
        try:
            found.check()
        except ClusterUnreachableError as error:
            with self._lock:
                self._silent[kubeconfig] = (time.monotonic() + _UNREACHABLE_SECONDS, str(error))
            raise
        return found


class KubernetesProvider(Provider):
    """One provider resource; `clusters` is shared by all of a process."""

    package = "kubernetes"
    version = importlib.metadata.version("pulumi-kubernetes")

    def __init__(self, clusters: Clusters) -> None:
        super().__init__()
        self._clusters = clusters
        self._kubeconfig: Kubeconfig | None = None
        #: Why there is no kubeconfig, while there is none.
        self._unreachable = "the provider is not configured"
        #: Whether an object that exists is taken over by its creation.
        self._upserts = False

    # --- the provider resource

    def check_config(self, urn: Urn, olds: Properties, news: Properties) -> Checked:
        reason = f"this stand-in reads `kubeconfig` and `upsertExistingObjects`, and applies on the server. Leave it out, or {_REAL_PLUGIN}"
        given = {key: value for key, value in plain(news).items() if value not in (None, "") and not key.startswith("__")}
        refused = [key for key in given if key not in _SETTINGS]
        if given.get("enableServerSideApply", True) in (False, "false"):
            refused.append("enableServerSideApply")
        return Checked(news, [CheckFailure(key, reason) for key in refused])

    def diff_config(self, urn: Urn, old_inputs: Properties, new_inputs: Properties) -> Difference:
        """Another active cluster replaces the provider, and with it what it made; other changes are made in place."""
        old, new = plain(old_inputs), plain(new_inputs)
        before, after = _server(old), _server(new)
        replaces = has_unknown(new.get("kubeconfig")) or bool(before and after and before != after)
        return Difference(tuple(diffs.replacing(change, replaces and change.path[0] == "kubeconfig") for change in compare(old, new)))

    def configure(self, variables: Mapping[str, str], args: Properties) -> None:
        self._kubeconfig, self._unreachable = None, ""
        self._upserts = plain(args).get("upsertExistingObjects") in (True, "true")
        if has_unknown(args.get("kubeconfig")):
            self._unreachable = "its kubeconfig is not known yet"
            return
        try:
            self._kubeconfig = _kubeconfig(plain(args))
        except ClusterUnreachableError as error:
            self._unreachable = str(error)

    # --- resources

    def check(self, urn: Urn, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        if refusal := _refusal(urn.type_token):
            return Checked(news, [CheckFailure("", refusal)])
        failures = _type_failures(urn.type_token, news)
        inputs = diffs.normalized(plain(news))
        api_version, kind = _kind_of(urn.type_token)
        inputs.setdefault("apiVersion", api_version)
        inputs.setdefault("kind", kind)
        metadata = inputs.setdefault("metadata", {})
        if isinstance(metadata, dict):
            if metadata.get("name") is None:
                _make_name(inputs, diffs.normalized(plain(olds)) if olds else None, urn.name, seed)
            # Until a kind is known it counts as namespaced; `create` puts that right.
            if not metadata.get("namespace") and self._namespaced(inputs) is not False:
                metadata["namespace"] = "default"
            for name, value in (metadata.get("annotations") or {}).items():
                unknown = name not in _ANNOTATIONS or (name == waits.WAIT_FOR and not str(value).startswith(waits.CONDITION))
                if name.startswith("pulumi.com/") and unknown:
                    known = f"{', '.join(sorted(_ANNOTATIONS))} ({waits.CONDITION}TYPE)"
                    reason = f"this stand-in knows only {known}. Use one of these, or {_REAL_PLUGIN}"
                    failures.append(CheckFailure(f'metadata.annotations["{name}"]', reason))
        return Checked(_marked(inputs, news), failures)

    def diff(self, change: Change) -> Difference:
        old, live = _parse(change.old_outputs, change.old_inputs)
        new = diffs.normalized(plain(change.new_inputs))
        pruned: Object = diffs.prune(live, old)
        namespaced = self._namespaced(new)
        for each in (pruned, new):
            metadata = each.setdefault("metadata", {})
            if not isinstance(metadata, dict):
                continue
            if namespaced is False:
                metadata.pop("namespace", None)
            else:
                metadata["namespace"] = metadata.get("namespace") or "default"
        if isinstance(pruned["metadata"], dict):
            pruned["metadata"]["name"] = _name(live)
        changes = diffs.without_ignored(diffs.differences(pruned, new), _paths(change.ignore_changes))
        if changes:
            predicted = self._predict(new)
            if predicted is not None:
                changes = diffs.without_invisible(changes, live, predicted)
            else:
                changes = diffs.without_unchanged_inputs(changes, old, new)
        replaced = any(change.replaces for change in changes)
        same_place = _name(new) == _name(live) and _namespace(new) == _namespace(live)
        autonamed = _annotation(new, _AUTONAMED) == "true"
        return Difference(tuple(changes), delete_before_replace=replaced and bool(_name(new)) and not autonamed and same_place)

    def create(self, urn: Urn, inputs: Properties, timeout: float | None, preview: bool) -> Created:
        body = plain(inputs)
        planned = Created("", _marked(inputs, inputs))
        if preview and has_unknown(body):
            return planned
        try:
            cluster = self._cluster()
            if preview and self._is_another_s(cluster, body):
                # It is still there, and what is to come in its place has not its uid.
                return planned
            live = self._make(cluster, urn, body, preview)
        except (ClusterUnreachableError, UnknownKindError) as error:
            if preview and not isinstance(error, BrokenRequestError):
                return planned
            raise _unreachable(error) from error
        except KubernetesApiError as error:
            # Forbidden, or of a namespace that is still to come, or the successor of an object that is still there.
            if preview and (error.code in (403, 409) or error.missing_namespace or error.immutable_field):
                return planned
            raise _creation_error(body, _hiding(inputs), error) from error
        if preview:
            live.pop("status", None)
            return Created("", _state(inputs, body, live))
        id = _id(live)
        failed = (
            f"{body['kind']} {id} was created, but the Kubernetes API server reported that it failed to fully initialize or become live"
        )
        return Created(id, self._until_live(urn, id, inputs, body, live, timeout, failed))

    def read(self, urn: Urn, id: str, inputs: Properties, outputs: Properties) -> ReadState | None:
        old, known = _parse(outputs, inputs)
        api_version, kind = _kind_of(urn.type_token)
        api_version = str(old.get("apiVersion") or known.get("apiVersion") or api_version)
        namespace, _, name = id.rpartition("/")
        try:
            cluster = self._cluster()
            live = cluster.get(api_version, kind, namespace or None, name)
        except UnknownKindError:
            return None
        except (ClusterUnreachableError, KubernetesApiError) as error:
            raise ProviderError(f"failed to read {kind} {id}: {_lost(error)}") from error
        if live is None:
            return None
        now = diffs.normalized(diffs.prune(live, old or _input_shape(live)))
        read = ReadState(id, _marked(now, inputs), _state(inputs, now, live))
        if old and (reasons := self._why_not_live(cluster, old, live)):
            message = f"Resource '{name}' was created but failed to initialize"
            raise PartialFailureError(message, id=id, outputs=read.outputs, inputs=read.inputs, reasons=[message, *reasons])
        return read

    def update(self, change: Change) -> Properties:
        body = diffs.normalized(plain(change.new_inputs))
        planned = _marked(change.new_inputs, change.new_inputs)
        if change.preview and has_unknown(body):
            return planned
        _, known = _parse(change.old_outputs, change.old_inputs)
        try:
            cluster = self._cluster()
            live = cluster.get(body["apiVersion"], body["kind"], _namespace(known), _name(known) or "")
            if live is None:
                raise ProviderError(
                    f"update of {body['kind']} {change.id} failed: there is no such object any more. Run `pulumi refresh`, "
                    "and the next `pulumi up` makes it anew"
                )
            live = self._apply(cluster, live, body, _paths(change.ignore_changes), change.preview)
        except (ClusterUnreachableError, UnknownKindError) as error:
            if change.preview:
                return planned
            raise _unreachable(error) from error
        except KubernetesApiError as error:
            if change.preview and error.code == 403:
                return planned
            raise _update_error(change.id, body, _hiding(change.new_inputs), error) from error
        if change.preview:
            return _state(change.new_inputs, body, live)
        failed = f"the Kubernetes API server reported that {body['kind']} {change.id} failed to initialize or become live"
        return self._until_live(change.urn, change.id, change.new_inputs, body, live, change.timeout, failed)

    def delete(self, urn: Urn, id: str, inputs: Properties, outputs: Properties, timeout: float | None) -> None:
        old, live = _parse(outputs, inputs)
        namespace, _, name = id.rpartition("/")
        try:
            cluster = self._cluster()
            propagation = _annotation(old, _PROPAGATION) or "foreground"
            if cluster.delete(live["apiVersion"], live["kind"], namespace or None, name, propagation):
                waits.until_gone(cluster, live, timeout=_timeout(timeout, old), cancelled=self.cancelled, report=self._reporter(urn))
        except UnknownKindError:
            # Its definition went first, and the object with it.
            return
        except (ClusterUnreachableError, KubernetesApiError) as error:
            raise ProviderError(f"cannot delete {live['kind']} {id}: {_lost(error)}") from error
        except waits.WaitError as error:
            raise ProviderError("; ".join([str(error), *error.reasons])) from error

    # --- requests

    def _cluster(self) -> ClusterClient:
        if self._kubeconfig is None:
            raise ClusterUnreachableError(self._unreachable)
        return self._clusters.client(self._kubeconfig)

    def _namespaced(self, inputs: Object) -> bool | None:
        """Whether a kind has namespaces; None when that cannot be told."""
        api_version, kind = str(inputs.get("apiVersion")), str(inputs.get("kind"))
        try:
            return bool(self._cluster().resource(api_version, kind).namespaced)
        except UnknownKindError:
            return None
        except (ClusterUnreachableError, KubernetesApiError):
            return False if kind in _CLUSTER_SCOPED else None

    def _predict(self, new: Object) -> Object | None:
        """What applying would make of an object; None when that cannot be asked, or the API server would refuse."""
        if has_unknown(new):
            return None
        try:
            return self._cluster().apply(new, manager=_MANAGER, force=True, dry_run=True)
        except (ClusterUnreachableError, UnknownKindError, KubernetesApiError):
            # An update that is refused is told by `update`, in its own words.
            return None

    def _make(self, cluster: ClusterClient, urn: Urn, body: Object, preview: bool) -> Object:
        body = copy.deepcopy(body)
        retries = iter(() if preview else _CREATE_RETRIES)
        while True:
            try:
                if not cluster.resource(body["apiVersion"], body["kind"]).namespaced:
                    body["metadata"].pop("namespace", None)
                if not preview and self._is_another_s(cluster, body):
                    raise ProviderError(
                        f"{body['kind']} {_name(body)} was not created: the object exists already and is not this stack's. For a renamed "
                        "resource give the old name as an alias; to manage an object that is there, `pulumi import` it; to take over what "
                        "exists without asking, set upsertExistingObjects on the provider"
                    )
                force = preview or _annotation(body, _PATCH_FORCE) == "true"
                return cluster.apply(body, manager=_MANAGER, force=force, dry_run=preview)
            except UnknownKindError as error:
                if not self._pause(retries, urn, error):
                    raise ProviderError(
                        f"creation of {body['kind']} {_name(body)} failed: {error}. Make sure that the "
                        "CustomResourceDefinition is created before it, for instance with depends_on"
                    ) from error
            except KubernetesApiError as error:
                if error.code != 404 or not self._pause(retries, urn, error):
                    raise

    def _is_another_s(self, cluster: ClusterClient, body: Object) -> bool:
        """Whether there is an object of this name already, which making it does not take over."""
        return not self._upserts and cluster.get(body["apiVersion"], body["kind"], _namespace(body), _name(body) or "") is not None

    def _pause(self, retries: Iterator[float], urn: Urn, reason: Exception) -> bool:
        """Waits for the next try; False when there is none any more."""
        seconds = next(retries, None)
        if seconds is None:
            return False
        self.log(urn, f"creation failed, trying again: {reason}", ephemeral=True)
        return not self.cancelled.wait(seconds)

    def _apply(self, cluster: ClusterClient, live: Object, body: Object, ignored: Sequence[Path], preview: bool) -> Object:
        if not cluster.resource(body["apiVersion"], body["kind"]).namespaced:
            body["metadata"].pop("namespace", None)
        # When told to, and where no manager is known to own anything.
        force = _annotation(body, _PATCH_FORCE) == "true" or not live["metadata"].get("managedFields")
        return cluster.apply(diffs.with_ignored(body, live, ignored, _MANAGER), manager=_MANAGER, force=force, dry_run=preview)

    # --- waits

    def _until_live(
        self, urn: Urn, id: str, inputs: Properties, body: Object, live: Object, timeout: float | None, failed: str
    ) -> Properties:
        """The state of an object that has become live. Whatever ends the wait, the object is there: the engine has to save it."""
        rule = waits.rule_for(body)
        if rule is None:
            return _state(inputs, body, live)
        try:
            wait = waits.Wait(self._cluster(), rule, self.cancelled, self._reporter(urn), timeout=_timeout(timeout, body))
            live = wait.until_live(live)
        except (waits.WaitError, ClusterUnreachableError, UnknownKindError, KubernetesApiError) as error:
            reasons = error.reasons if isinstance(error, waits.WaitError) else ()
            last = error.object if isinstance(error, waits.WaitError) else live
            message = f"{failed}: {error}"
            raise PartialFailureError(
                message, id=id, outputs=_state(inputs, body, last), inputs=inputs, reasons=[message, *reasons]
            ) from error
        # Takes the last line of progress off the screen.
        self.log(urn, "", ephemeral=True)
        return _state(inputs, body, live)

    def _why_not_live(self, cluster: ClusterClient, old: Object, live: Object) -> Sequence[str]:
        """As seen at one moment; nothing where that cannot be told."""
        rule = waits.rule_for(old)
        if rule is None:
            return ()
        try:
            verdict = rule(waits.look(cluster, live))
        except (waits.WaitError, ClusterUnreachableError, UnknownKindError, KubernetesApiError):
            return ()
        return () if verdict.ready else (verdict.reasons or (verdict.progress,))

    def _reporter(self, urn: Urn) -> Callable[[str], None]:
        return lambda message: self.log(urn, message, ephemeral=True)


# --- the provider's settings


def _kubeconfig(config: Properties) -> Kubeconfig:
    given = config.get("kubeconfig")
    return Kubeconfig.load(json.dumps(given) if isinstance(given, dict) else str(given or ""))


def _server(config: Properties) -> Mapping[str, Any] | None:
    """The cluster of a kubeconfig; None while it is not known, or is none."""
    if has_unknown(config.get("kubeconfig")):
        return None
    try:
        return _kubeconfig(config).server
    except ClusterUnreachableError:
        return None


# --- refusals and errors


def _refusal(token: str) -> str | None:
    module, _, kind = token.removeprefix("kubernetes:").rpartition(":")
    if module.startswith(_OTHER_PROGRAMS):
        return f"{token}: this stand-in has single objects of kinds that are served. Declare the objects themselves, or {_REAL_PLUGIN}"
    if kind.endswith("Patch") and "." not in module:
        return f"{token}: this stand-in has no patch resources. Manage the whole object, or {_REAL_PLUGIN}"
    return None


def _type_failures(token: str, news: Properties) -> list[CheckFailure]:
    failures = []
    for problem in sdk_types.find_problems(token, plain(news)):
        reason = str(problem)
        if not problem.unknown_key and _is_hidden(problem.path, news, token):
            reason = f"{problem.property_path}: the secret value is not of the type that the field has"
        failures.append(CheckFailure(problem.property_path, reason))
    return failures


def _is_hidden(path: Path, news: Any, token: str) -> bool:
    if token.endswith(":Secret") and path[:1] in (("data",), ("stringData",)):
        return True
    value = news
    for part in path:
        if isinstance(value, Secret):
            return True
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return False
    return isinstance(value, Secret)


def _lost(error: Exception) -> str:
    if isinstance(error, BrokenRequestError):
        # The cluster is there.
        return f"{error}. Run the command again"
    if isinstance(error, ClusterUnreachableError):
        return (
            f"configured Kubernetes cluster is unreachable: {error}. Check the provider's kubeconfig, its exec plugin and the cluster's "
            "address; if the cluster is gone for good, take its objects out of the state by `pulumi state delete`"
        )
    return str(error)


def _unreachable(error: Exception) -> ProviderError:
    if isinstance(error, BrokenRequestError):
        return ProviderError(f"{error}. Run `pulumi up --refresh`, which sees whether the change was made")
    return ProviderError(_lost(error))


def _creation_error(body: Object, hide: Callable[[object], str], error: KubernetesApiError) -> ProviderError:
    where = f"{body['kind']} {_name(body)}"
    if error.field_conflict:
        return _conflict(where, hide(error))
    return ProviderError(f"{where} was not successfully created by the Kubernetes API server: {hide(error)}")


def _update_error(id: str, body: Object, hide: Callable[[object], str], error: KubernetesApiError) -> ProviderError:
    where = f"{body['kind']} {id}"
    if error.field_conflict:
        return _conflict(where, hide(error))
    again = ". Another client changed it at the same moment: run `pulumi up` again" if error.code == 409 else ""
    return ProviderError(f"update of {where} failed: {hide(error)}{again}")


def _conflict(where: str, reason: str) -> ProviderError:
    return ProviderError(
        f"{where}: the server-side apply conflicts with another manager of the same fields: {reason}. To leave them to the "
        f"other, name them in ignore_changes or take them out of the program; to take them over, set the annotation "
        f'{_PATCH_FORCE}: "true"'
    )


def _hiding(inputs: Properties) -> Callable[[object], str]:
    """The API server quotes the values that it refuses: this takes secret ones out of its message."""
    return hiding([_marked(inputs, inputs)])


# --- names


def _kind_of(token: str) -> tuple[str, str]:
    """`kubernetes:core/v1:Secret` -> ("v1", "Secret")."""
    module, _, kind = token.removeprefix("kubernetes:").rpartition(":")
    return module.removeprefix("core/"), kind


def _make_name(inputs: Object, olds: Object | None, name: str, seed: bytes) -> None:
    """Keeps the name made before; else makes one. Both leave a mark, by which a replacement knows that it may rename."""
    metadata = inputs["metadata"]
    annotations = metadata.get("annotations")
    if olds is not None and _annotation(olds, _AUTONAMED) == "true":
        metadata["name"] = _name(olds)
    else:
        source = random.Random(seed) if seed else random.SystemRandom()
        metadata["name"] = f"{name}-{source.getrandbits(32):08x}"
    if annotations is None or isinstance(annotations, dict):
        metadata["annotations"] = {**(annotations or {}), _AUTONAMED: "true"}


def _id(live: Object) -> str:
    namespace = _namespace(live)
    return f"{namespace}/{_name(live)}" if namespace else str(_name(live))


def _of_metadata(value: Mapping[str, Any], key: str) -> str | None:
    metadata = value.get("metadata")
    found = metadata.get(key) if isinstance(metadata, Mapping) else None
    return found if isinstance(found, str) else None


def _name(value: Mapping[str, Any]) -> str | None:
    return _of_metadata(value, "name")


def _namespace(value: Mapping[str, Any]) -> str | None:
    return _of_metadata(value, "namespace")


_annotation = waits.annotation


# --- state


def _state(inputs: Properties, body: Object, live: Object) -> Properties:
    """The outputs of an object: itself as it is, and what the next operation needs to know of its inputs."""
    outputs = _marked(live, inputs)
    outputs[_INPUTS] = _marked(body, inputs)
    outputs[_API_VERSION] = body["apiVersion"]
    outputs[_FIELD_MANAGER] = _MANAGER
    return outputs


def _parse(outputs: Properties, inputs: Properties) -> tuple[Object, Object]:
    """Old inputs and live object of a state; secrets as plain values."""
    live: Object = plain(outputs)
    kept = live.pop(_INPUTS, None)
    for key in (_FIELD_MANAGER, _API_VERSION):
        live.pop(key, None)
    old = diffs.normalized(kept if isinstance(kept, dict) else plain(inputs))
    return old, live


def _input_shape(live: Object) -> Object:
    """What of an imported object a program would say: all but its status and what the server writes."""
    shape = {key: value for key, value in copy.deepcopy(live).items() if key != "status"}
    annotations = shape["metadata"].get("annotations") or {}
    for name in (waits.REVISION, "kubectl.kubernetes.io/last-applied-configuration"):
        annotations.pop(name, None)
    return diffs.normalized(shape)


def _marked(values: Mapping[str, Any], like: Mapping[str, Any]) -> Properties:
    """`values` with a Secret's contents secret, and everything that is secret in `like`."""
    marked: Properties = dict(values)
    if marked.get("kind") == "Secret":
        marked |= {key: Secret(plain(marked[key])) for key in ("data", "stringData") if key in marked}
    kept: Properties = keep_secrets(marked, like)
    return kept


def _timeout(given: float | None, inputs: Object) -> float:
    annotation = _annotation(inputs, _TIMEOUT) or ""
    if given:
        return given
    return float(annotation) if annotation.isdigit() else waits.DEFAULT_TIMEOUT_SECONDS


def _paths(texts: Sequence[str]) -> list[Path]:
    try:
        return [diffs.parse_path(text) for text in texts]
    except ValueError as error:
        raise ProviderError(f"ignore_changes: {error}") from error
