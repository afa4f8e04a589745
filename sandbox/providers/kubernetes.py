"""A stand-in for pulumi-kubernetes 4.34 on the API server that the provider resource's kubeconfig reaches.

Objects are made by POST and updated by server-side apply, with previews by dry run, and are waited for, as the real
provider does it (https://github.com/pulumi/pulumi-kubernetes, provider/pkg/provider/provider.go and ../await/await.go);
its state has the same shape, so that the real plugin can take a stack over. The values in between are worked out in
`kubernetes_diff`, the waits in `kubernetes_await`, requests are made in `kubernetes_client`.

Left out, and refused with a message: patch resources, Helm, Kustomize and YAML, which are programs of their own;
client-side apply and rendering to files, which need no API server to stand in for; `replaceUnready`, functions and lists.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sandbox.providers import kubernetes_await as waits
from sandbox.providers import kubernetes_diff as diffs
from sandbox.providers import sdk_types
from sandbox.providers.differences import Difference, Path, PropertyChange
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
    Checked,
    CheckFailure,
    Created,
    PartialFailureError,
    Properties,
    Provider,
    ProviderError,
    ReadState,
    Severity,
    Urn,
)
from sandbox.providers.wire import UNKNOWN, Secret, has_unknown, plain

#: The manager of a POST; the first apply takes its fields over.
_CREATING_MANAGER: Final = "pulumi-kubernetes"

# Keys of the state beside the object's own.
_INPUTS: Final = "__inputs"
_FIELD_MANAGER: Final = "__fieldManager"
_API_VERSION: Final = "__initialApiVersion"

_AUTONAMED: Final = "pulumi.com/autonamed"

#: Seconds before each new try when a namespace or a kind is not there yet: what makes it may run beside.
_CREATE_RETRIES: Final = (1.0, 2.0, 4.0, 8.0)

#: Seconds for which a cluster that did not answer is not asked again.
_UNREACHABLE_SECONDS: Final = 5.0

_CONFLICT_TRIES: Final = 3

#: Kinds without a namespace, for when the API server cannot be asked.
_CLUSTER_SCOPED: Final = frozenset(
    {
        "APIService",
        "CSIDriver",
        "CSINode",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "FlowSchema",
        "IngressClass",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "RuntimeClass",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
    }
)

#: Kinds whose deletion `skipAwait` does not wait for either.
_SKIP_AWAIT_ON_DELETE: Final = frozenset({"Namespace", "Pod", "ReplicationController", "DaemonSet", "Deployment", "StatefulSet", "Job"})

_OTHER_PROGRAMS: Final = ("helm.sh/", "kustomize", "yaml")

_DELETE_UNREACHABLE = (
    "If the cluster is gone for good, its objects can be dropped from Pulumi's state: set `deleteUnreachable` on the "
    "provider or run `pulumi up` or `pulumi destroy --run-program` with PULUMI_K8S_DELETE_UNREACHABLE=true"
)


class Clusters:
    """The clients of all provider resources of this process, one for each kubeconfig."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
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


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """A provider resource's configuration. Without a kubeconfig, `unreachable` says why there is none."""

    kubeconfig: Kubeconfig | None = None
    unreachable: str = "the provider is not configured"
    namespace: str = "default"
    delete_unreachable: bool = False
    skip_update_unreachable: bool = False
    patch_force: bool = False
    upsert: bool = False
    secrets_mutable: bool = False
    config_maps_mutable: bool = False


class KubernetesProvider(Provider):
    """One provider resource; `clusters` is shared by all of a process."""

    package = "kubernetes"
    version = importlib.metadata.version("pulumi-kubernetes")

    def __init__(self, clusters: Clusters) -> None:
        super().__init__()
        self._clusters = clusters
        self._settings = _Settings()

    # --- the provider resource

    def check_config(self, urn: Urn, olds: Properties, news: Properties) -> Checked:
        failures = []
        if _flag(news.get("enableServerSideApply"), default=True) is False:
            reason = "false: this stand-in applies on the server only. Leave it out, or use the real kubernetes plugin"
            failures.append(CheckFailure("enableServerSideApply", reason))
        if news.get("renderYamlToDirectory"):
            reason = "this stand-in renders no files. Leave it out, or use the real kubernetes plugin"
            failures.append(CheckFailure("renderYamlToDirectory", reason))
        return Checked(news, failures)

    def diff_config(self, urn: Urn, old_inputs: Properties, new_inputs: Properties) -> Difference:
        """Another active cluster replaces the provider, and with it what it made; other settings change in place.

        With `clusterIdentifier` given on both sides, that alone tells.
        """
        old, new = plain(old_inputs), plain(new_inputs)
        changed = [key for key in sorted({*old, *new}) if not diffs.equal(old.get(key), new.get(key))]
        replacing: set[str] = set()
        identifiers = old.get("clusterIdentifier"), new.get("clusterIdentifier")
        if all(identifiers):
            replacing = {"clusterIdentifier"} if identifiers[0] != identifiers[1] else set()
        elif unknown := [key for key in ("kubeconfig", "context", "cluster") if has_unknown(new.get(key))]:
            replacing = set(unknown)
        else:
            before, after = self._active_server(old), self._active_server(new)
            if before and after and before != after:
                replacing = {"kubeconfig", "context", "cluster"} & set(changed)
        return Difference(tuple(PropertyChange((key,), _change_kind(key, old, new), key in replacing) for key in changed))

    def _active_server(self, config: Properties) -> Mapping[str, Any] | None:
        if not config.get("kubeconfig"):
            return None
        try:
            return self._kubeconfig(config).server
        except ClusterUnreachableError:
            return None

    def configure(self, variables: Mapping[str, str], args: Properties) -> None:
        config = plain(args)
        environment = self._clusters.environment

        def flag(name: str, variable: str) -> bool:
            given = _flag(config.get(name))
            return environment.get(variable) == "true" if given is None else given

        kubeconfig, unreachable = None, ""
        if has_unknown([config.get(key) for key in ("kubeconfig", "context", "cluster")]):
            unreachable = "its kubeconfig is not known yet"
        else:
            try:
                kubeconfig = self._kubeconfig(config)
            except ClusterUnreachableError as error:
                unreachable = str(error)
        namespace = config.get("namespace")
        self._settings = _Settings(
            kubeconfig=kubeconfig,
            unreachable=unreachable,
            namespace=namespace if isinstance(namespace, str) and namespace else _namespace_of(kubeconfig),
            delete_unreachable=flag("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
            skip_update_unreachable=flag("skipUpdateUnreachable", "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE"),
            patch_force=flag("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
            upsert=flag("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
            secrets_mutable=flag("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
            config_maps_mutable=flag("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
        )

    def _kubeconfig(self, config: Properties) -> Kubeconfig:
        given = config.get("kubeconfig")
        return Kubeconfig.load(
            json.dumps(given) if isinstance(given, dict) else given,
            context=config.get("context") or None,
            cluster=config.get("cluster") or None,
            environment=self._clusters.environment,
        )

    # --- resources

    def check(self, urn: Urn, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        if refusal := _refusal(urn.type_token):
            return Checked(news, [CheckFailure("", refusal)])
        failures = _type_failures(urn.type_token, news)
        inputs = diffs.normalized(_dashed(plain(news)))
        api_version, kind = _kind_of(urn.type_token)
        inputs.setdefault("apiVersion", api_version)
        inputs.setdefault("kind", kind)
        metadata = inputs.setdefault("metadata", {})
        if isinstance(metadata, dict):
            if metadata.get("generateName") is not None and metadata.get("name") is None:
                reason = "server-side apply needs names. Leave both out to have a name made, or set metadata.name"
                failures.append(CheckFailure("metadata.generateName", reason))
            elif metadata.get("name") is None:
                _make_name(inputs, diffs.normalized(plain(olds)) if olds else None, urn.name, seed)
            # Until a kind is known it counts as namespaced; `create` puts that right.
            if not metadata.get("namespace") and self._namespaced(inputs) is not False:
                metadata["namespace"] = self._settings.namespace
        try:
            waits.rule_for(inputs)
        except ValueError as error:
            failures.append(CheckFailure('metadata.annotations["pulumi.com/waitFor"]', str(error)))
        return Checked(_marked(_underscored(inputs), news), failures)

    def diff(
        self,
        urn: Urn,
        id: str,
        old_inputs: Properties,
        old_outputs: Properties,
        new_inputs: Properties,
        ignore_changes: Sequence[str],
    ) -> Difference:
        old, live, _ = _parse(old_outputs, old_inputs)
        new = diffs.normalized(_dashed(plain(new_inputs)))
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
        fixed = diffs.force_new_paths(
            new,
            secrets_mutable=self._settings.secrets_mutable,
            config_maps_mutable=self._settings.config_maps_mutable,
        )
        changes = diffs.differences(pruned, new, fixed)
        changes = diffs.without_ignored(changes, _paths(ignore_changes))
        if changes:
            predicted = self._predict(new, old_outputs)
            if predicted is not None:
                changes = diffs.without_invisible(changes, live, predicted)
            else:
                changes = diffs.without_unchanged_inputs(changes, old, new)
        replaced = any(change.replaces for change in changes)
        same_place = _name(new) == _name(live) and _namespace(new) == _namespace(live)
        autonamed = _annotation(new, _AUTONAMED) == "true"
        return Difference(
            tuple(_on_the_wire(change) for change in changes),
            delete_before_replace=replaced and bool(_name(new)) and not autonamed and same_place,
        )

    def create(self, urn: Urn, inputs: Properties, timeout: float | None, preview: bool) -> Created:
        body = _dashed(plain(inputs))
        planned = Created("", _marked(inputs, inputs))
        if preview and has_unknown(body):
            return planned
        try:
            cluster = self._cluster()
            if preview:
                cluster.resource(body["apiVersion"], body["kind"])
        except (ClusterUnreachableError, UnknownKindError) as error:
            if preview:
                return planned
            raise _unreachable(error) from error
        manager = _annotation(body, "pulumi.com/patchFieldManager") or f"pulumi-kubernetes-{random.getrandbits(32):08x}"
        try:
            live = self._post(cluster, urn, body, manager, preview)
        except KubernetesApiError as error:
            # Forbidden, or of a namespace that is still to come, or the successor of an object that is still there.
            if preview and (error.code in (403, 409) or error.missing_namespace or error.immutable_field):
                return planned
            raise _creation_error(body, _hiding(inputs), error) from error
        if preview:
            live.pop("status", None)
            return Created("", _state(inputs, body, live, manager))
        if body["kind"] == "CustomResourceDefinition":
            cluster.forget_kinds()
        id = _id(live)
        live = self._until_live(
            urn,
            id,
            inputs,
            body,
            live,
            manager,
            timeout,
            created=True,
            failed=f"{body['kind']} {id} was created, but the Kubernetes API server reported that it failed to fully "
            "initialize or become live",
        )
        return Created(id, _state(inputs, body, live, manager))

    def read(self, urn: Urn, id: str, inputs: Properties, outputs: Properties) -> ReadState | None:
        old, known, manager = _parse(outputs, inputs)
        api_version, kind = _kind_of(urn.type_token)
        api_version = str(old.get("apiVersion") or known.get("apiVersion") or api_version)
        namespace, _, name = id.rpartition("/")
        try:
            cluster = self._cluster()
            live = cluster.get(api_version, kind, namespace or None, name)
        except UnknownKindError:
            return None
        except BrokenRequestError as error:
            raise ProviderError(f"failed to read {kind} {id}: {error}") from error
        except ClusterUnreachableError as error:
            self.log(urn, f"configured Kubernetes cluster is unreachable: {error}", Severity.WARNING)
            if self._settings.delete_unreachable:
                return None
            if self._settings.skip_update_unreachable:
                return ReadState(id, inputs, outputs)
            raise ProviderError(f"failed to read {kind} {id}, since its cluster is unreachable: {error}. {_DELETE_UNREACHABLE}") from error
        except KubernetesApiError as error:
            raise ProviderError(f"failed to read {kind} {id}: {error}") from error
        if live is None:
            return None
        manager = manager or _CREATING_MANAGER
        shape = old or _input_shape(live)
        now = diffs.normalized(diffs.prune(live, shape))
        state = _state(inputs, now, live, manager)
        read = ReadState(id, _marked(_underscored(now), inputs), state)
        if old and (reasons := self._why_not_live(cluster, old, live)):
            message = f"Resource '{name}' was created but failed to initialize"
            raise PartialFailureError(message, id=id, outputs=read.outputs, inputs=read.inputs, reasons=[message, *reasons])
        return read

    def update(
        self,
        urn: Urn,
        id: str,
        old_inputs: Properties,
        old_outputs: Properties,
        new_inputs: Properties,
        timeout: float | None,
        ignore_changes: Sequence[str],
        preview: bool,
    ) -> Properties:
        body = diffs.normalized(_dashed(plain(new_inputs)))
        planned = _marked(new_inputs, new_inputs)
        if preview and has_unknown(body):
            return planned
        _, known, previous = _parse(old_outputs, old_inputs)
        manager = _annotation(body, "pulumi.com/patchFieldManager") or previous or _CREATING_MANAGER
        try:
            cluster = self._cluster()
            live = cluster.get(body["apiVersion"], body["kind"], _namespace(known), _name(known) or "")
            if live is None:
                raise ProviderError(
                    f"update of {body['kind']} {id} failed: there is no such object any more. Run `pulumi refresh`, "
                    "and the next `pulumi up` makes it anew"
                )
            live = self._apply(cluster, live, body, manager, _paths(ignore_changes), preview)
        except (ClusterUnreachableError, UnknownKindError) as error:
            if preview:
                return planned
            raise _unreachable(error) from error
        except KubernetesApiError as error:
            if preview and error.code == 403:
                return planned
            raise _update_error(id, body, manager, _hiding(new_inputs), error) from error
        if preview:
            return _state(new_inputs, body, live, manager)
        if body["kind"] == "CustomResourceDefinition":
            cluster.forget_kinds()
        live = self._until_live(
            urn,
            id,
            new_inputs,
            body,
            live,
            manager,
            timeout,
            created=False,
            failed=f"the Kubernetes API server reported that {body['kind']} {id} failed to fully initialize or become live",
        )
        return _state(new_inputs, body, live, manager)

    def delete(self, urn: Urn, id: str, inputs: Properties, outputs: Properties, timeout: float | None) -> None:
        old, live, _ = _parse(outputs, inputs)
        namespace, _, name = id.rpartition("/")
        kind = live["kind"]
        given = (_annotation(old, "pulumi.com/deletionPropagationPolicy") or "").lower()
        propagation = {"orphan": "Orphan", "background": "Background"}.get(given, "Foreground")
        try:
            cluster = self._cluster()
            there = cluster.delete(live["apiVersion"], kind, namespace or None, name, propagation=propagation)
            skip = _annotation(old, "pulumi.com/skipAwait") == "true" and kind in _SKIP_AWAIT_ON_DELETE
            if there and not skip:
                waits.until_gone(
                    cluster,
                    live,
                    timeout=_timeout(timeout, old),
                    cancelled=self.cancelled,
                    report=self._reporter(urn),
                )
            if kind == "CustomResourceDefinition":
                cluster.forget_kinds()
        except UnknownKindError:
            # Its definition went first, and the object with it.
            return
        except BrokenRequestError as error:
            # Not a word of clusters that are gone: this one is there.
            raise ProviderError(f"cannot delete {kind} {id}: {error}. Run the command again") from error
        except ClusterUnreachableError as error:
            if self._settings.delete_unreachable:
                self.log(urn, f"the cluster is unreachable ({error}); the object leaves the state", Severity.WARNING)
                return
            raise ProviderError(
                f"cannot delete {kind} {id}: configured Kubernetes cluster is unreachable: {error}. {_DELETE_UNREACHABLE}"
            ) from error
        except KubernetesApiError as error:
            raise ProviderError(f"cannot delete {kind} {id}: {error}") from error
        except waits.WaitError as error:
            raise ProviderError("; ".join([str(error), *error.reasons])) from error

    # --- requests

    def _cluster(self) -> ClusterClient:
        if self._settings.kubeconfig is None:
            raise ClusterUnreachableError(self._settings.unreachable)
        return self._clusters.client(self._settings.kubeconfig)

    def _namespaced(self, inputs: Object) -> bool | None:
        """Whether a kind has namespaces; None when nobody knows."""
        api_version, kind = str(inputs.get("apiVersion")), str(inputs.get("kind"))
        try:
            return bool(self._cluster().resource(api_version, kind).namespaced)
        except UnknownKindError:
            return None
        except (ClusterUnreachableError, KubernetesApiError):
            return False if kind in _CLUSTER_SCOPED else None

    def _predict(self, new: Object, old_outputs: Properties) -> Object | None:
        """What applying would make of an object; None when that cannot be asked, or the API server would refuse."""
        if has_unknown(new):
            return None
        manager = str(plain(old_outputs).get(_FIELD_MANAGER) or _CREATING_MANAGER)
        try:
            return self._cluster().apply(new, manager=manager, force=True, dry_run=True)
        except (ClusterUnreachableError, UnknownKindError, KubernetesApiError):
            # An update that is refused is told by `update`, in its own words.
            return None

    def _post(self, cluster: ClusterClient, urn: Urn, body: Object, manager: str, preview: bool) -> Object:
        body = copy.deepcopy(body)
        retries = iter(() if preview else _CREATE_RETRIES)
        while True:
            try:
                if not cluster.resource(body["apiVersion"], body["kind"]).namespaced:
                    body["metadata"].pop("namespace", None)
                if self._settings.upsert:
                    force = preview or self._forces(body, None)
                    return cluster.apply(body, manager=manager, force=force, dry_run=preview)
                return cluster.create(body, manager=_CREATING_MANAGER, dry_run=preview)
            except UnknownKindError as error:
                if not self._pause(retries, urn, error):
                    raise ProviderError(
                        f"creation of {body['kind']} {_name(body)} failed: {error}. Make sure that the "
                        "CustomResourceDefinition is created before it, for instance with depends_on"
                    ) from error
            except ClusterUnreachableError as error:
                raise _unreachable(error) from error
            except KubernetesApiError as error:
                if error.code != 404 or not self._pause(retries, urn, error):
                    raise

    def _pause(self, retries: Iterator[float], urn: Urn, reason: Exception) -> bool:
        """Waits for the next try; False when there is none any more."""
        seconds = next(retries, None)
        if seconds is None:
            return False
        self.log(urn, f"creation failed, trying again: {reason}", ephemeral=True)
        return not self.cancelled.wait(seconds)

    def _apply(
        self,
        cluster: ClusterClient,
        live: Object,
        body: Object,
        manager: str,
        ignored: Sequence[Path],
        preview: bool,
    ) -> Object:
        if not cluster.resource(body["apiVersion"], body["kind"]).namespaced:
            body["metadata"].pop("namespace", None)
        if body["kind"] == "CustomResourceDefinition":
            versioned = {**body["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}
            return cluster.replace({**body, "metadata": versioned}, manager=manager, dry_run=preview)
        force = self._forces(body, live)
        fields = diffs.taken_over(live["metadata"].get("managedFields") or [], manager)
        if preview:
            # The fields of the predecessors are taken over only when it is earnest.
            force = force or fields is not None
        elif fields is not None:
            live = self._take_over(cluster, live, manager)
        wanted = diffs.with_ignored(body, live, ignored, manager)
        return cluster.apply(wanted, manager=manager, force=force, dry_run=preview)

    def _take_over(self, cluster: ClusterClient, live: Object, manager: str) -> Object:
        metadata = live["metadata"]
        for attempt in range(_CONFLICT_TRIES):
            fields = diffs.taken_over(metadata.get("managedFields") or [], manager)
            operations: list[Object] = [
                {"op": "replace", "path": "/metadata/managedFields", "value": fields},
                # Somebody else's write in between would be lost otherwise.
                {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            ]
            try:
                return cluster.patch(live, operations)
            except KubernetesApiError as error:
                if error.code != 409 or attempt == _CONFLICT_TRIES - 1:
                    raise
            newer = cluster.get(live["apiVersion"], live["kind"], metadata.get("namespace"), metadata["name"])
            if newer is None:
                break
            live, metadata = newer, newer["metadata"]
        return live

    def _forces(self, body: Object, live: Object | None) -> bool:
        """Whether to take fields from other managers: when told to, and where nobody is known to own any."""
        unmanaged = live is not None and not live["metadata"].get("managedFields")
        return unmanaged or self._settings.patch_force or _annotation(body, "pulumi.com/patchForce") == "true"

    # --- waits

    def _until_live(
        self,
        urn: Urn,
        id: str,
        inputs: Properties,
        body: Object,
        live: Object,
        manager: str,
        timeout: float | None,
        *,
        created: bool,
        failed: str,
    ) -> Object:
        rule = waits.rule_for(body)
        if rule is None:
            return live
        with self._ready_client_errors(urn, id, inputs, body, live, manager, failed) as cluster:
            wait = waits.Wait(cluster, rule, self.cancelled, self._reporter(urn), timeout=_timeout(timeout, body))
            live = wait.until_live(live, created=created)
        # Takes the last line of progress off the screen.
        self.log(urn, "", ephemeral=True)
        return live

    @contextmanager
    def _ready_client_errors(
        self, urn: Urn, id: str, inputs: Properties, body: Object, live: Object, manager: str, failed: str
    ) -> Iterator[ClusterClient]:
        """Whatever ends a wait, the object is there: the engine has to save it."""
        try:
            yield self._cluster()
        except (waits.WaitError, ClusterUnreachableError, UnknownKindError, KubernetesApiError) as error:
            reasons = error.reasons if isinstance(error, waits.WaitError) else ()
            last = error.object if isinstance(error, waits.WaitError) else live
            message = f"{failed}: {error}"
            raise PartialFailureError(
                message,
                id=id,
                outputs=_state(inputs, body, last, manager),
                inputs=inputs,
                reasons=[message, *reasons],
            ) from error

    def _why_not_live(self, cluster: ClusterClient, old: Object, live: Object) -> Sequence[str]:
        """At one glance; nothing where that cannot be told."""
        try:
            rule = waits.rule_for(old)
            if rule is None:
                return ()
            verdict = rule(waits.look(cluster, live, created=False))
        except (ValueError, waits.WaitError, ClusterUnreachableError, UnknownKindError, KubernetesApiError):
            return ()
        return () if verdict.ready else (verdict.reasons or (verdict.progress,))

    def _reporter(self, urn: Urn) -> Callable[[str], None]:
        return lambda message: self.log(urn, message, ephemeral=True)


# --- refusals and errors


def _refusal(token: str) -> str | None:
    module, _, kind = token.removeprefix("kubernetes:").rpartition(":")
    if module.startswith(_OTHER_PROGRAMS):
        return (
            f"{token} is not among what this stand-in does: it has single objects only. Declare the objects themselves, "
            "or put the real kubernetes plugin on PATH"
        )
    if kind.endswith("Patch") and _is_sdk_type(token):
        return f"{token}: this stand-in has no patch resources. Manage the whole object, or put the real kubernetes plugin on PATH"
    return None


def _is_sdk_type(token: str) -> bool:
    """A custom resource's kind may end in Patch, and be an ordinary one."""
    try:
        return sdk_types.args_class(token) is not None
    except sdk_types.UnknownTypeError:
        return False


def _type_failures(token: str, news: Properties) -> list[CheckFailure]:
    found = sdk_types.find_problems(token, plain(news))
    failures = []
    for problem in found:
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


def _unreachable(error: Exception) -> ProviderError:
    if isinstance(error, BrokenRequestError):
        return ProviderError(f"{error}. Run `pulumi up --refresh`, which sees whether the change was made")
    return ProviderError(
        f"configured Kubernetes cluster is unreachable: {error}. Check the provider's kubeconfig, its exec plugin and the cluster's address"
    )


def _creation_error(body: Object, hide: Callable[[object], str], error: KubernetesApiError) -> ProviderError:
    where = f"{body['kind']} {_name(body)}"
    if error.code == 409 and error.reason == "AlreadyExists":
        return ProviderError(
            f"{where} was not created: {hide(error)}. The object exists already and is not this stack's. For a renamed resource "
            "give the old name as an alias; to manage an object that is there, `pulumi import` it; to take over what "
            "exists without asking, set upsertExistingObjects on the provider"
        )
    if error.field_conflict:
        return _conflict(where, "", hide(error))
    return ProviderError(f"{where} was not successfully created by the Kubernetes API server: {hide(error)}")


def _update_error(id: str, body: Object, manager: str, hide: Callable[[object], str], error: KubernetesApiError) -> ProviderError:
    where = f"{body['kind']} {id}"
    if error.field_conflict:
        return _conflict(where, manager, hide(error))
    again = ". Somebody else changed it at the same moment: run `pulumi up` again" if error.code == 409 else ""
    return ProviderError(f"update of {where} failed: {hide(error)}{again}")


def _conflict(where: str, manager: str, reason: str) -> ProviderError:
    by = f" of field manager {manager!r}" if manager else ""
    return ProviderError(
        f"{where}: the server-side apply{by} conflicts with another manager of the same fields: {reason}. To leave them "
        "to the other, name them in ignore_changes or take them out of the program; to take them over, set the annotation "
        'pulumi.com/patchForce: "true" or enablePatchForce on the provider'
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


def _metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    found = value.get("metadata")
    return found if isinstance(found, Mapping) else {}


def _name(value: Mapping[str, Any]) -> str | None:
    found = _metadata(value).get("name")
    return found if isinstance(found, str) else None


def _namespace(value: Mapping[str, Any]) -> str | None:
    found = _metadata(value).get("namespace")
    return found if isinstance(found, str) else None


def _annotation(value: Mapping[str, Any], name: str) -> str | None:
    annotations = _metadata(value).get("annotations")
    found = annotations.get(name) if isinstance(annotations, Mapping) else None
    return found if isinstance(found, str) else None


# --- state


def _state(inputs: Properties, body: Object, live: Object, manager: str) -> Properties:
    """The outputs of an object: itself as it is, and what the next operation needs to know of its inputs."""
    secret_data = diffs.is_secret(live)
    outputs: Properties = _marked(_underscored(live), inputs)
    if secret_data and "data" in outputs and not isinstance(outputs["data"], Secret):
        outputs["data"] = Secret(outputs["data"])
    outputs[_INPUTS] = _marked(_underscored(body), inputs)
    outputs[_API_VERSION] = body["apiVersion"]
    outputs[_FIELD_MANAGER] = manager
    return outputs


def _parse(outputs: Properties, inputs: Properties) -> tuple[Object, Object, str | None]:
    """Old inputs, live object and field manager of a state; secrets as plain values."""
    live: Object = _dashed(plain(outputs))
    kept = live.pop(_INPUTS, None)
    manager = live.pop(_FIELD_MANAGER, None)
    live.pop(_API_VERSION, None)
    old = diffs.normalized(kept if isinstance(kept, dict) else _dashed(plain(inputs)))
    return old, live, manager if isinstance(manager, str) else None


def _input_shape(live: Object) -> Object:
    """What of an imported object a program would say: all but its status and what the server writes."""
    shape = {key: value for key, value in copy.deepcopy(live).items() if key != "status"}
    annotations = shape["metadata"].get("annotations") or {}
    for name in (waits.REVISION, "kubectl.kubernetes.io/last-applied-configuration"):
        annotations.pop(name, None)
    return diffs.normalized(shape)


def _marked(values: Mapping[str, Any], like: Mapping[str, Any]) -> Properties:
    """`values` with a Secret's contents secret, and everything that is secret in `like`; of lists the whole, since
    their order may change.
    """
    marked: Properties = dict(values)
    if marked.get("kind") == "Secret":
        for key in ("data", "stringData"):
            if key in marked and not isinstance(marked[key], Secret):
                marked[key] = Secret(plain(marked[key]))
        like = {key: value for key, value in like.items() if key not in ("data", "stringData")}
    for key, other in like.items():
        value = marked.get(key)
        if value is None or isinstance(value, Secret):
            continue
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            marked[key] = _marked(value, other)
        elif _has_secret(other):
            marked[key] = Secret(plain(value))
    return marked


def _has_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_secret, value.values()))
    if isinstance(value, list):
        return any(map(_has_secret, value))
    return isinstance(value, Secret)


#: Dashes are no part of the SDKs' names, so these keys of a CustomResourceDefinition's schema have underscores there.
_UNDERSCORES: Final = {
    f"x_kubernetes_{name}": f"x-kubernetes-{name.replace('_', '-')}"
    for name in (
        "embedded_resource",
        "int_or_string",
        "list_map_keys",
        "list_type",
        "map_type",
        "preserve_unknown_fields",
        "validations",
    )
}
_DASHES: Final = {dashed: underscored for underscored, dashed in _UNDERSCORES.items()}


def _dashed(value: Any) -> Any:
    return _renamed(value, _UNDERSCORES)


def _underscored(value: Any) -> Any:
    return _renamed(value, _DASHES)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {names.get(key, key): _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return value


def _on_the_wire(change: PropertyChange) -> PropertyChange:
    path = tuple(_DASHES.get(part, part) if isinstance(part, str) else part for part in change.path)
    return PropertyChange(path, change.kind, change.replaces)


# --- settings


def _flag(value: Any, *, default: bool | None = None) -> bool | None:
    """Booleans of a provider's configuration come as themselves or as text."""
    if isinstance(value, bool):
        return value
    return default if value in (None, "") or value is UNKNOWN else value == "true"


def _namespace_of(kubeconfig: Kubeconfig | None) -> str:
    return kubeconfig.namespace if kubeconfig else "default"


def _change_kind(key: str, old: Properties, new: Properties) -> Any:
    return "add" if old.get(key) is None else "delete" if new.get(key) is None else "update"


def _timeout(given: float | None, inputs: Object) -> float:
    annotation = _annotation(inputs, "pulumi.com/timeoutSeconds") or ""
    if given:
        return given
    return float(annotation) if annotation.isdigit() else waits.DEFAULT_TIMEOUT_SECONDS


def _paths(texts: Sequence[str]) -> list[Path]:
    try:
        return [diffs.parse_path(text) for text in texts]
    except ValueError as error:
        raise ProviderError(f"ignore_changes: {error}") from error
