"""Runs the whole program against a recording monitor, with the settings of a stack file, and checks every resource's keys."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
from google.protobuf import json_format
from pulumi.runtime import mocks
from pulumi.runtime.proto import source_pb2
from pulumi.runtime.rpc import _special_secret_sig, _special_sig_key

from components import interpreter
from components.settings import stack_files
from components.settings.schema import schema_settings
from sandbox.providers import sdk_types

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "tpu-gpu-fungibility"
TOKEN = "hf_a-token-that-nobody-may-see"
API_KEY = "a-key-that-nobody-may-see"
#: What every secret of Secret Manager holds.
STORED = "a-stored-secret-that-nobody-may-see"

#: The setting `network` for a Shared VPC.
EXISTING = {
    "existing": {
        "hostProject": "host-project",
        "network": "shared",
        "subnetwork": "tokyo",
        "podRange": "tokyo-pods",
        "serviceRange": "tokyo-services",
    }
}
OTHER_IMAGES = {
    kind: f"us-central1-docker.pkg.dev/dev-project/docker-repo/vllm-fungibility@sha256:{digit * 64}"
    for kind, digit in (("gpu", "1"), ("tpu", "2"))
}

#: What they are built on, according to the stack that has built them.
OTHER_BASES = {"gpu": "docker.io/vllm/vllm-openai:v0.31.2", "tpu": "docker.io/vllm/vllm-tpu:v0.27.0"}

#: What the real providers compute, as far as the program reads it.
_COMPUTED: dict[str, dict[str, Any]] = {
    "gcp:container/cluster:Cluster": {
        "endpoint": "203.0.113.10",
        "masterAuth": {"clusterCaCertificate": "Q0E="},
        "controlPlaneEndpointsConfig": {"dnsEndpointConfig": {"endpoint": "gke-1.asia-northeast1.gke.goog"}},
    },
    "gcp:serviceaccount/account:Account": {"email": "nodes@example.iam.gserviceaccount.com"},
    "gcp:artifactregistry/repository:Repository": {"name": "docker-repo"},
    "gcp:storage/bucket:Bucket": {"name": "weights-cache-1a2b3c4", "projectNumber": 123456789012},
    # What the outputs of another stack have.
    "pulumi:pulumi:StackReference": {"outputs": {"images": OTHER_IMAGES, "base_images": OTHER_BASES}},
    "kubernetes:gateway.networking.k8s.io/v1:Gateway": {"status": {"addresses": [{"type": "IPAddress", "value": "198.51.100.8"}]}},
    "gcp:certificatemanager/dnsAuthorization:DnsAuthorization": {
        "dnsResourceRecords": [
            {"name": "_acme-challenge.llm.example.com.", "type": "CNAME", "data": "1a2b.authorize.certificatemanager.goog."}
        ]
    },
    "kubernetes:core/v1:Service": {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}},
}


@dataclass(frozen=True)
class Resource:
    """One registration; `inputs` in wire form with secrets unwrapped, `secrets` the paths that were secret."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    secrets: list[str]
    parent: str
    provider: str
    dependencies: list[str]
    ignore_changes: list[str]
    custom: bool
    protect: bool
    #: None leaves it to the provider.
    delete_before_replace: bool | None
    #: Names of the hooks that hear of its failures.
    error_hooks: list[str]


@dataclass
class Run:
    """What one run of the program did."""

    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: list[str] = field(default_factory=list)
    error_hooks: dict[str, pulumi.ErrorHook] = field(default_factory=dict)

    def only(self, type_token: str) -> Resource:
        (found,) = self.of_type(type_token)
        return found

    def of_type(self, type_token: str) -> list[Resource]:
        return [each for each in self.resources.values() if each.type == type_token]

    def named(self, type_token: str, name: str) -> Resource:
        (found,) = [each for each in self.of_type(type_token) if each.name == name]
        return found

    def waits_for(self, urn: str) -> set[str]:
        """Everything that a resource waits for, a parent's own dependencies and providers included."""
        found: set[str] = set()
        todo = [urn]
        while todo:
            if resource := self.resources.get(todo.pop()):
                new = {*resource.dependencies, resource.provider.rpartition("::")[0]} - found - {""}
                found |= new
                todo += new
        return found


class Mocks(mocks.Mocks):
    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        if args.token.startswith("gcp:secretmanager/"):
            return {"secretData": STORED, **args.args}, []
        return {"accessToken": "ya29.a-token", "project": "p", "region": "r", "zone": "z", "number": "123456789012"}, []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        state = {**args.inputs, **_COMPUTED.get(args.typ, {})}
        if args.typ == "docker:index/image:Image":
            repository = str(args.inputs["imageName"]).rsplit(":", 1)[0]
            state["repoDigest"] = f"{repository}@sha256:{args.name.encode().hex():0<64}"
        if args.typ == "kubernetes:core/v1:Secret":
            state["metadata"] = {"name": f"{args.name}-1a2b3c4d", **args.inputs["metadata"]}
        return f"{args.name}-id", state


class _RecordingMonitor(mocks.MockMonitor):
    def __init__(self, run: Run, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self._run = run
        self._lock = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:
        plain, secrets = _unwrap(request.object)
        if not request.type.startswith(("pulumi:", "fungibility:")):
            found = [str(problem) for problem in sdk_types.find_problems(request.type, plain)]
            assert not found, f"{request.type} {request.name}: {found}"
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type == "pulumi:pulumi:Stack":
            # The SDK registers it in the first run of a process only.
            return response
        with self._lock:
            self._run.resources[response.urn] = Resource(
                urn=response.urn,
                type=request.type,
                name=request.name,
                inputs=plain,
                secrets=secrets,
                parent=request.parent,
                provider=request.provider,
                dependencies=sorted(request.dependencies),
                ignore_changes=list(request.ignoreChanges),
                custom=request.custom,
                protect=request.protect,
                delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
                error_hooks=list(request.hooks.on_error),
            )
        return response


class _Callbacks:
    """In place of the server that an engine calls hooks on, which the SDK's mocks have not."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def register_resource_hook(self, hook: pulumi.ResourceHook) -> None:
        """A mock creates nothing that would call it."""

    def register_error_hook(self, hook: pulumi.ErrorHook) -> None:
        self._run.error_hooks[hook.name] = hook


def _unwrap(struct: Any) -> tuple[dict[str, Any], list[str]]:
    secrets: list[str] = []

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            if value.get(_special_sig_key) == _special_secret_sig:
                secrets.append(path)
                return walk(value["value"], path)
            return {key: walk(each, f"{path}.{key}".lstrip(".")) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each, f"{path}[{index}]") for index, each in enumerate(value)]
        # Struct knows no integers.
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return walk(json_format.MessageToDict(struct), ""), secrets


def default_of(key: str) -> Any:
    """A setting's declared default."""
    (default,) = [each.default for each in schema_settings() if each.key == key]
    return default


def config(overrides: Mapping[str, Any] | None = None, *, stack: str = "dev") -> dict[str, str]:
    """What the engine hands to the program: the stack's file, then `overrides` (None removes)."""
    return stack_files.values(stack, {"gcp:project": "my-project", **(overrides or {})})


def run_program(overrides: Mapping[str, Any] | None = None, *, stack: str = "dev") -> Run:
    """What `__main__.py` does with these settings; run once in a process for each set of them, so the result must not be changed.

    Raises what the program raises.
    """
    return _run_once(json.dumps(dict(overrides or {})), stack)


@cache
def _run_once(overrides: str, stack: str) -> Run:
    return run_program_anew(json.loads(overrides), stack=stack)


def run_program_anew(overrides: Mapping[str, Any] | None = None, *, stack: str = "dev") -> Run:
    """Runs `__main__.py` even if it ran with these settings before, for tests that watch it run. Raises what the program raises."""
    values = config(overrides, stack=stack)
    secret_keys = [key for key in values if key.endswith((":huggingFaceToken", ":apiKey"))]
    return run_recorded(ROOT / "__main__.py", Run(), Mocks(), values, secret_keys=secret_keys, project=NAMESPACE, stack=stack)


def run_recorded(
    path: Path, run: Run, answers: mocks.Mocks, values: Mapping[str, str], *, project: str, stack: str, secret_keys: Sequence[str] = ()
) -> Run:
    """Runs a `__main__.py`, or a folder that has one with its own modules beside it, into `run`, which is filled even if the program fails.

    Raises what the program raises.
    """
    mocks.set_mocks(answers, project=project, stack=stack, monitor=_RecordingMonitor(run, answers))
    pulumi.runtime.set_all_config(dict(values), list(secret_keys))

    exported: dict[str, pulumi.Output[Any]] = {}

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[None]:
        runpy.run_path(str(path))
        secret: dict[str, Any] = {name: each.is_secret() for name, each in exported.items()}
        return pulumi.Output.all(pulumi.Output.all(**exported), pulumi.Output.all(**secret)).apply(keep)

    def export(name: str, value: Any) -> None:
        exported[name] = pulumi.Output.from_input(value)

    def keep(known: Sequence[dict[str, Any]]) -> None:
        run.outputs, secret = known
        run.secret_outputs = [name for name, is_secret in secret.items() if is_secret]

    async def callbacks() -> _Callbacks:
        return _Callbacks(run)

    with (
        mock.patch.dict("os.environ", {"PULUMI_CONFIG": "{}"}),
        mock.patch.object(pulumi, "export", export),
        # This process outlives the program.
        mock.patch.object(interpreter, "prepare"),
        mock.patch("pulumi.runtime.resource._get_callbacks", callbacks),
        # Where in the program each resource was declared is for an engine's messages, and takes a third of the time.
        mock.patch("pulumi.runtime.resource._get_stack_trace", source_pb2.StackTrace),
    ):
        program()
    return run
