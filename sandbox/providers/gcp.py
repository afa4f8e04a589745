"""The stand-in for pulumi-gcp: clusters and node pools become those of the sandbox, everything else is a record.

What the engine sees is as with pulumi-gcp: inputs checked against the SDK's types in the real provider's words, names of
Pulumi's making where the program gives none, replacements where Google cannot change a thing in place, computed outputs
(`gcp_kinds`), unknowns for them in previews, conflicts (409) and refusals in the words of Google's API.

Left out: rules of Google's API beyond names and conflicts (quotas, permissions, values), `deletionPolicy`, labels and defaults that
the real provider adds to inputs, and default node pools, which here no cluster has.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any, TypeVar

from sandbox.gke.cloud import Cloud, CloudError, PoolInErrorStateError
from sandbox.google.records import AlreadyExistsError, Records
from sandbox.google.secret_manager import SecretStore
from sandbox.providers.computed_fields import computed_fields, with_kept, with_known
from sandbox.providers.differences import Difference, Path, PropertyChange, compare, property_path
from sandbox.providers.gcp_kinds import CLUSTER, NODE_POOL, SERVICE, Kind, kind_of, new_names, project_number
from sandbox.providers.google_requests import GoogleRequests, RequestError, UnreadError
from sandbox.providers.sdk_types import Problem, find_problems, property_names
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
from sandbox.providers.wire import UNKNOWN, Secret, has_unknown, keep_secrets, plain, without_secrets

_T = TypeVar("_T")

#: Where the real provider, too, notes which inputs it has made up itself.
_DEFAULTS = "__defaults"

#: Lists that Google keeps as sets, and booleans whose absence is false: neither order nor presence is a change.
_SETS = frozenset({"nodeLocations", "oauthScopes"})
_FALSE_BY_DEFAULT = frozenset({"preemptible", "spot"})

#: GKE gives no client certificate unless asked for one.
_MASTER_AUTH = {"clientCertificateConfig": {"issueClientCertificate": False}}


class GcpProvider(Provider):
    package = "gcp"
    version = version("pulumi-gcp")

    def __init__(
        self, cloud: Cloud, records: Records, secret_store: SecretStore | None = None, requests: GoogleRequests | None = None
    ) -> None:
        """Without `secret_store` there is no secret, without `requests` no request that fails."""
        super().__init__()
        self._requests = requests or GoogleRequests()
        self._secret_store = secret_store
        self._cloud = cloud
        self._records = records
        self._project: str | None = None
        self._region: str | None = None
        self._zone: str | None = None

    def configure(self, variables: Mapping[str, str], args: Properties) -> None:
        known = {key: value for key, value in plain(args).items() if isinstance(value, str) and value}
        self._project, self._region, self._zone = (known.get(key) for key in ("project", "region", "zone"))

    # --- resources

    def check(self, urn: Urn, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        problems = find_problems(urn.type_token, plain(news))
        if problems:
            return Checked(news, [_failure(urn, problem) for problem in problems])
        kind = kind_of(urn.type_token)
        inputs = {key: value for key, value in news.items() if value is not None and key != _DEFAULTS}
        name = kind.auto_named
        defaults: list[str] = []
        if name is not None and name not in inputs:
            made_before = olds is not None and name in (olds.get(_DEFAULTS) or [])
            inputs[name] = olds[name] if olds is not None and made_before else _new_name(urn, kind, seed)
            defaults.append(name)
        if defaults:
            inputs[_DEFAULTS] = defaults
        failures = [
            *_name_failures(urn, kind, inputs),
            *_json_failures(urn, kind, plain(inputs)),
            *_value_failures(urn, kind, plain(inputs)),
        ]
        return Checked(inputs, failures)

    def diff(self, change: Change) -> Difference:
        kind = kind_of(change.urn.type_token)
        old, new = _comparable(change.old_inputs), _comparable(change.new_inputs)
        fields = computed_fields(change.urn.type_token)
        new = with_kept(fields, old, new)
        old = with_known(fields, _comparable(change.old_outputs), old, new)
        for key, same in kind.json_properties.items():
            if isinstance(old.get(key), str) and isinstance(new.get(key), str):
                # Compared as what it means; else as what cannot be the same.
                old[key], new[key] = (True, True) if same(old[key], new[key]) else (False, True)
        changes = tuple(_with_replacement(kind, change) for change in compare(old, new))
        # Of a name that a program gives, the bridge does not ask whether it is another one now (nameRequiresDeleteBeforeReplace).
        name = kind.auto_named
        named = name is not None and name in change.new_inputs and name not in (change.new_inputs.get(_DEFAULTS) or [])
        return Difference(changes, delete_before_replace=kind.goes_first or named)

    def create(self, urn: Urn, inputs: Properties, timeout: float | None, preview: bool) -> Created:
        if preview:
            return Created("", self._previewed(urn, inputs))
        kind = kind_of(urn.type_token)
        properties = self._resolved(urn, inputs)
        _raise_refusals(urn, kind, properties, "creating")
        id = self._id(kind, properties)
        given = _given(properties)

        def made() -> dict[str, Any]:
            if urn.type_token == CLUSTER:
                return self._asked(lambda: self._cloud.create_cluster(id, given))
            if urn.type_token == NODE_POOL:
                return self._asked(lambda: self._cloud.create_node_pool(*_pool_address(id), given))
            try:
                self._records.create(urn.type_token, id, without_secrets(_shown(inputs)), owner=urn, replace=kind.idempotent)
            except AlreadyExistsError as error:
                reason = f"googleapi: Error 409: Requested entity already exists: {id}, alreadyExists"
                raise ProviderError(f"Error creating {_noun(urn)}: {reason} (it was made by {error.owner})") from None
            return {}

        try:
            facts = self._written(urn, "creating", made)
        except PoolInErrorStateError as error:
            # The pool goes into the state, and Google's own words are lost on the way: the real provider says the same
            # (resourceContainerNodePoolCreate drops the operation's error when the pool is there).
            reason = f'creating {urn}: NodePool {properties["name"]} was created in the error state "RUNNING_WITH_ERROR"'
            outputs = _outputs(kind, id, inputs, properties, error.facts)
            raise PartialFailureError(reason, id=id, outputs=outputs, inputs=inputs, reasons=[reason]) from error
        except UnreadError as error:
            facts = error.result
            message = f"Error reading {_noun(urn)} after it was created: {error}"
            outputs = _outputs(kind, id, inputs, properties, facts)
            raise PartialFailureError(message, id=id, outputs=outputs, inputs=inputs, reasons=[message]) from error
        return Created(id, _outputs(kind, id, inputs, properties, facts))

    def read(self, urn: Urn, id: str, inputs: Properties, outputs: Properties) -> ReadState | None:
        self._requested(f"Error reading {_noun(urn)}", lambda: self._requests.read(id, _nothing, cancelled=self.cancelled))
        if not outputs:
            return self._imported(urn, id, inputs)
        if urn.type_token == CLUSTER:
            facts = self._cloud.read_cluster(id)
        elif urn.type_token == NODE_POOL:
            facts = self._cloud.read_node_pool(*_pool_address(id))
        else:
            facts = None if self._records.get(urn.type_token, id) is None else {}
        if facts is None:
            return None
        return ReadState(id, inputs, _merged(outputs, _with_secret_key(facts)))

    def _imported(self, urn: Urn, id: str, inputs: Properties) -> ReadState | None:
        """What a resource is that Pulumi has no state of: the real provider's importers, `inputs` given or not.

        Those of clusters and node pools wait until no operation runs on them, and make an error of one that is not there
        (`resourceContainerClusterStateImporter`, `resourceContainerNodePoolStateImporter`).
        """
        # An IAM binding is imported by its parts with spaces between them.
        id = "/".join(id.split())
        facts: dict[str, Any] | None = {}
        recorded = self._recorded(urn, id)
        if urn.type_token == CLUSTER:
            facts = self._cloud.read_cluster(id)
        elif urn.type_token == NODE_POOL:
            facts = self._cloud.read_node_pool(*_pool_address(id))
        elif recorded is None:
            return None
        if recorded is None or facts is None:
            raise ProviderError(f"googleapi: Error 404: Not found: {id}., notFound")
        # Secret values are in what the program gave alone.
        found = dict(inputs or recorded)
        if urn.type_token == CLUSTER:
            # The provider's own properties, of which Google knows nothing.
            found["deletionProtection"] = True
            found.pop("removeDefaultNodePool", None)
        properties = self._resolved(urn, found)
        return ReadState(id, found, _outputs(kind_of(urn.type_token), id, found, properties, facts))

    def _recorded(self, urn: Urn, id: str) -> dict[str, Any] | None:
        """What the cloud was last asked for, once no operation runs on it; None where nothing of this id is there."""
        if urn.type_token == CLUSTER:
            return self._cloud.settle_cluster(id)
        if urn.type_token == NODE_POOL:
            return self._cloud.settle_node_pool(*_pool_address(id))
        return self._records.get(urn.type_token, id)

    def update(self, change: Change) -> Properties:
        urn, id, old_inputs, old_outputs = change.urn, change.id, change.old_inputs, change.old_outputs
        fields = computed_fields(urn.type_token)
        unchanged = _comparable(old_inputs) == with_kept(fields, _comparable(old_inputs), _comparable(change.new_inputs))
        before = None if change.preview else self._recorded(urn, id)
        new_inputs = with_kept(fields, old_inputs if before is None else before, change.new_inputs)
        # What was computed stays as it is; what else the program no longer says goes.
        kept = {key: value for key, value in old_outputs.items() if key not in old_inputs or key in new_inputs}
        if change.preview:
            return {**kept, **_shown(new_inputs)}
        if unchanged:
            # The engine updates what failed to initialize; without a difference the real bridge asks Google nothing.
            return dict(old_outputs)
        kind = kind_of(urn.type_token)
        properties = self._resolved(urn, new_inputs)
        _raise_refusals(urn, kind, properties, "updating")
        given = _given(properties)

        def changed() -> dict[str, Any]:
            if urn.type_token == CLUSTER:
                return self._asked(lambda: self._cloud.update_cluster(id, given))
            if urn.type_token == NODE_POOL:
                return self._asked(lambda: self._cloud.update_node_pool(*_pool_address(id), given))
            try:
                self._records.update(urn.type_token, id, without_secrets(_shown(new_inputs)))
            except KeyError:
                raise ProviderError(f"Error updating {_noun(urn)}: googleapi: Error 404: {id} was not found, notFound") from None
            return {}

        try:
            facts = self._written(urn, "updating", changed)
        except UnreadError as error:
            raise ProviderError(f"Error reading {_noun(urn)} after it was updated: {error}") from error
        outputs = _outputs(kind, id, new_inputs, properties, facts)
        # A date of creation is not made anew.
        constant: Properties = {
            key: kept[key] for key in ("createTime", "creationTimestamp", "creationRecords", "timeCreated") if key in kept
        }
        return {**kept, **outputs, **constant}

    def delete(self, urn: Urn, id: str, inputs: Properties, outputs: Properties, timeout: float | None) -> None:
        if urn.type_token == CLUSTER and plain(outputs.get("deletionProtection", True)):
            raise ProviderError(
                "Cannot destroy cluster because deletion_protection is set to true. Set it to false to proceed with cluster deletion."
            )
        if urn.type_token == SERVICE and not plain(outputs.get("disableOnDestroy")):
            # It stays in the cloud, and Pulumi knows it no longer.
            return

        def gone() -> dict[str, Any]:
            try:
                if urn.type_token == CLUSTER:
                    self._cloud.delete_cluster(id)
                elif urn.type_token == NODE_POOL:
                    self._cloud.delete_node_pool(*_pool_address(id))
                else:
                    self._records.delete(urn.type_token, id)
            except CloudError as error:
                # What is gone already has reached what deleting wants.
                if "Error 404" not in str(error):
                    raise ProviderError(str(error)) from error
            return {}

        self._written(urn, "deleting", gone)

    # --- functions

    def invoke(self, token: str, args: Properties, preview: bool) -> Properties:
        functions = {
            "gcp:organizations/getClientConfig:getClientConfig": self._client_config,
            "gcp:organizations/getProject:getProject": self._project_facts,
            "gcp:secretmanager/getSecretVersion:getSecretVersion": self._secret_version,
        }
        function = functions.get(token)
        return function(plain(args)) if function is not None else super().invoke(token, args, preview)

    def _client_config(self, args: Mapping[str, Any]) -> Properties:
        token = self._requested("Error setting access_token", lambda: self._requests.access_token(self.cancelled))
        return {
            "id": f'projects/"{self._project or ""}"/regions/"{self._region or ""}"/zones/"{self._zone or ""}"',
            "accessToken": Secret(token),
            "defaultLabels": {},
            "project": self._project or "",
            "region": self._region or "",
            "zone": self._zone or "",
        }

    def _project_facts(self, args: Mapping[str, Any]) -> Properties:
        project = args.get("projectId") or self._known_project()
        return {
            "id": f"projects/{project}",
            "projectId": project,
            "name": project,
            "number": project_number(project),
            "autoCreateNetwork": True,
            **dict.fromkeys(("billingAccount", "deletionPolicy", "folderId", "orgId"), ""),
            **{key: {} for key in ("labels", "effectiveLabels", "pulumiLabels", "tags")},
        }

    def _secret_version(self, args: Mapping[str, Any]) -> Properties:
        project, name = args.get("project") or self._known_project(), str(args.get("secret"))
        wanted = str(args.get("version") or "latest")
        found = self._secret_store.read(project, name, wanted) if self._secret_store else None
        if found is None:
            where = f"projects/{project_number(project)}/secrets/{name}"
            missing = (
                f"Secret [{where}] not found or has no versions."
                if wanted == "latest"
                else f"Secret Version [{where}/versions/{wanted}] not found."
            )
            raise ProviderError(f"error retrieving available secret manager secret version: googleapi: Error 404: {missing}")
        id = f"projects/{project_number(project)}/secrets/{name}/versions/{found.number}"
        return {
            "id": id,
            "name": id,
            "project": project,
            "secret": name,
            "version": str(found.number),
            "enabled": True,
            "createTime": "",
            "destroyTime": "",
            "secretData": Secret(found.value),
        }

    # --- parts

    def _known_project(self) -> str:
        if not self._project:
            raise ProviderError("project: required field is not set: set it on the resource or on the gcp provider")
        return self._project

    def _resolved(self, urn: Urn, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Plain inputs, and what the provider's own configuration says where they say nothing."""
        properties: dict[str, Any] = plain(inputs)
        names = property_names(urn.type_token)
        if "project" in names and not properties.get("project"):
            properties["project"] = self._known_project()
        if "zone" in names and not properties.get("zone") and self._zone:
            properties["zone"] = self._zone
        if "region" in names and not properties.get("region") and self._region:
            properties["region"] = self._region
        if "location" in names and not properties.get("location"):
            location = self._location(urn)
            if not location:
                raise ProviderError("Cannot determine location: set location in this resource, or set provider-level region or zone")
            properties["location"] = location
        if urn.type_token == NODE_POOL:
            # The program may name the cluster by its id.
            properties["cluster"] = str(properties["cluster"]).rpartition("/")[2]
        return properties

    def _location(self, urn: Urn) -> str | None:
        return kind_of(urn.type_token).location or self._zone or self._region

    def _id(self, kind: Kind, properties: Mapping[str, Any]) -> str:
        names = {**properties, **new_names(properties.get("project"))}
        missing = [each for each in re.findall(r"\{(\w+)\}", kind.id) if not names.get(each)]
        if missing:
            raise ProviderError(f"{missing[0]}: required field is not set")
        return re.sub(r"\{(\w+)\}", lambda match: str(names[match[1]]), kind.id)

    def _previewed(self, urn: Urn, inputs: Properties) -> Properties:
        """Inputs as outputs, and every other output unknown, but for what the provider's configuration says of it."""
        outputs: Properties = dict.fromkeys(property_names(urn.type_token), UNKNOWN)
        outputs.update(_shown(inputs))
        for key, value in (("project", self._project), ("location", self._location(urn))):
            if outputs.get(key) is UNKNOWN and key not in inputs and value:
                outputs[key] = value
        return outputs

    def _written(self, urn: Urn, doing: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Sends a change, as often as the real provider does. Raises `ProviderError`, and `UnreadError`."""
        noun = _noun(urn)
        return self._requested(
            f"Error {doing} {noun}",
            lambda: self._requests.write(
                f"{doing} {noun} {urn.name}",
                run,
                cancelled=self.cancelled,
                iam="Iam" in noun or "IAM" in noun,
                long=urn.type_token in (CLUSTER, NODE_POOL),
                read_back=doing != "deleting",
            ),
        )

    def _requested(self, failed: str, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except UnreadError:
            raise
        except RequestError as error:
            raise ProviderError(f"{failed}: {error}") from error

    def _asked(self, call: Any) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = call()
        except PoolInErrorStateError:
            raise
        except CloudError as error:
            raise ProviderError(str(error)) from error
        return facts


def _nothing() -> None:
    """What a read that is answered elsewhere asks of the cloud."""


def _failure(urn: Urn, problem: Problem) -> CheckFailure:
    """In the words of the real provider, which names no property beside its text."""
    if not problem.path:
        return CheckFailure("", str(problem))
    where = f"Examine values at '{urn.name}.{problem.property_path}'."
    if problem.unknown_key:
        hint = f" Did you mean '{problem.nearest}'?" if problem.nearest else ""
        return CheckFailure("", f"Invalid or unknown key. {where}{hint}")
    if problem.reason.startswith("missing"):
        return CheckFailure("", f"Missing required argument. {where}")
    hint = f" Did you mean '{problem.nearest}'?" if problem.nearest else ""
    return CheckFailure("", f"{problem.reason[:1].upper()}{problem.reason[1:]}. {where}{hint}")


def _name_failures(urn: Urn, kind: Kind, inputs: Mapping[str, Any]) -> Iterable[CheckFailure]:
    for key, (pattern, rule) in (kind.patterns or {}).items():
        value = plain(inputs.get(key))
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield CheckFailure("", f'"{key}" ("{value}") {rule}. Examine values at \'{urn.name}.{key}\'.')


def _value_failures(urn: Urn, kind: Kind, inputs: Any, path: Path = ()) -> Iterable[CheckFailure]:
    """Values that the real provider knows to be none of the API's."""
    if isinstance(inputs, Mapping):
        for key, value in inputs.items():
            yield from _value_failures(urn, kind, value, (*path, key))
    elif isinstance(inputs, list):
        for index, value in enumerate(inputs):
            yield from _value_failures(urn, kind, value, (*path, index))
    elif isinstance(inputs, str):
        allowed = kind.values.get(".".join(step for step in path if isinstance(step, str)), (inputs,))
        if inputs not in allowed:
            where = property_path(path)
            known = " ".join(f'"{each}"' for each in allowed)
            yield CheckFailure("", f"expected {where} to be one of [{known}], got {inputs}. Examine values at '{urn.name}.{where}'.")


def _json_failures(urn: Urn, kind: Kind, inputs: Mapping[str, Any]) -> Iterable[CheckFailure]:
    for key in kind.json_properties:
        if not isinstance(inputs.get(key), str):
            # Not known yet.
            continue
        try:
            json.loads(inputs[key])
        except ValueError as error:
            where = f"Examine values at '{urn.name}.{key}'."
            yield CheckFailure("", f'"{key}" contains an invalid JSON: {error}. {where}')


def _raise_refusals(urn: Urn, kind: Kind, properties: Mapping[str, Any], doing: str) -> None:
    refusals = kind.refusals(properties) if kind.refusals is not None else []
    if refusals:
        raise ProviderError(f"Error {doing} {_noun(urn)}: googleapi: Error 400: {' '.join(refusals)}, badRequest")


def _new_name(urn: Urn, kind: Kind, seed: bytes) -> str:
    """The resource's name in the program and seven digits that are random, but the same for one update tried twice."""
    digits = hashlib.sha256(seed + urn.encode()).hexdigest()[:7] if seed else secrets.token_hex(4)[:7]
    stem = re.sub(r"[^a-z0-9-]", "-", urn.name.lower())[: kind.max_name_length - 8]
    return f"{stem}-{digits}"


def _comparable(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs in one form for what means the same."""

    def settled(value: Any) -> Any:
        if isinstance(value, Secret):
            return Secret(settled(value.value))
        if isinstance(value, Mapping):
            kept = {key: each for key, each in value.items() if not (key in _FALSE_BY_DEFAULT and each is False)}
            return {
                key: sorted(each) if key in _SETS and isinstance(each, list) and not has_unknown(each) else settled(each)
                for key, each in kept.items()
                if key != _DEFAULTS
            }
        if isinstance(value, list):
            return [settled(each) for each in value]
        return value

    return {key: value for key, value in settled(inputs).items() if key != _DEFAULTS}


def _with_replacement(kind: Kind, change: PropertyChange) -> PropertyChange:
    names = [step for step in change.path if isinstance(step, str)]
    prefixes = {".".join(names[: length + 1]) for length in range(len(names))}
    # A whole object that comes or goes brings or takes everything below it.
    below = any(path.startswith(".".join(names) + ".") for path in kind.replaces) and change.kind != "update"
    return replace(change, replaces="*" in kind.replaces or bool(prefixes & kind.replaces) or below)


def _shown(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key != _DEFAULTS}


def _given(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A copy for the cloud, which may keep it."""
    given: dict[str, Any] = plain(_shown(inputs))
    return given


def _pool_address(id: str) -> tuple[str, str]:
    """Id of the cluster and name of the pool, of a pool's id."""
    cluster, _, name = id.partition("/nodePools/")
    return cluster, name


def _noun(urn: Urn) -> str:
    return urn.type_token.rpartition(":")[2]


def _outputs(kind: Kind, id: str, inputs: Mapping[str, Any], properties: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything known of a resource that is there: inputs, defaults, what is computed, what the cloud says."""
    known = _merged(_merged({**_shown(properties), **kind.outputs(properties, id)}, facts), {})
    kept: dict[str, Any] = keep_secrets(_with_secret_key(known), _shown(inputs))
    return kept


def _merged(outputs: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """With the cloud's facts; of an object (`masterAuth`) that both have, at any depth, each gives its part."""
    merged = dict(outputs)
    for key, value in facts.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def _with_secret_key(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The private key of a cluster's client certificate is a secret, as in the real provider's schema."""
    authentication = facts.get("masterAuth")
    if not isinstance(authentication, Mapping) or "clientKey" not in authentication:
        return dict(facts)
    key = authentication["clientKey"]
    marked = key if isinstance(key, Secret) else Secret(key)
    return {**facts, "masterAuth": {**_MASTER_AUTH, **authentication, "clientKey": marked}}
