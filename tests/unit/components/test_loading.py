"""What the program and the sandbox's commands load, and how often they read: every run would pay for what is not needed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest

from components.settings import settings, stack_files
from sandbox.google.latencies import Clock
from sandbox.images.image_builder import ImageBuilder
from sandbox.images.image_store import ImageStore
from sandbox.providers import serve as providers
from tests.unit.program import ROOT, run_program_anew
from tests.unit.provider_client import Client

#: Runs the program as the language host does, but against mocks, and prints what it left of the interpreter.
_PROGRAM = """
import atexit, gc, json, runpy, sys
from unittest import mock

import pulumi
from pulumi.runtime import mocks

values = json.loads(sys.argv[1])
# Called last at the end, since it is registered first.
atexit.register(lambda: print(json.dumps({
    "modules": sorted(sys.modules), "collects": gc.isenabled(), "frozen": gc.get_freeze_count() > 0,
})))

class Mocks(mocks.Mocks):
    def call(self, args):
        return {"accessToken": "a-token", "number": "123456789012", "secretData": "a-secret"}, []

    def new_resource(self, args):
        computed = {
            "gcp:container/cluster:Cluster": {
                "endpoint": "203.0.113.10", "masterAuth": {"clusterCaCertificate": "Q0E="},
            },
            "kubernetes:core/v1:Service": {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}},
            "docker:index/image:Image": {"repoDigest": "example.com/repository@sha256:" + "0" * 64},
        }
        return f"{args.name}-id", {**args.inputs, **computed.get(args.typ, {})}

async def callbacks():
    # In place of the server that an engine calls hooks on, which the mocks have not.
    return mock.Mock()

mocks.set_mocks(Mocks(), project="tpu-gpu-fungibility", stack="dev")
pulumi.runtime.set_all_config(values, [])
with mock.patch("pulumi.runtime.resource._get_callbacks", callbacks):
    pulumi.runtime.test(lambda: runpy.run_path("__main__.py"))()
"""


@cache
def dev_program() -> dict[str, Any]:
    values = json.dumps(stack_files.values("dev", {"gcp:project": "my-project"}))
    return _printed(["-c", _PROGRAM, values])


def _printed(arguments: list[str]) -> dict[str, Any]:
    result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


@cache
def _loaded_by(module: str) -> set[str]:
    return set(_printed(["-c", f"import json, sys, {module}; print(json.dumps({{'modules': sorted(sys.modules)}}))"])["modules"])


@pytest.mark.parametrize(
    "module",
    [
        # Packages of the sandbox, of the tools beside the program, and of their libraries.
        "sandbox", "ops.preflight", "ops.smoke", "kubernetes", "googleapiclient", "google.auth", "rich",
        # Packages of the SDKs for what only another stack has: a network, an autoscaler, a bucket, stored secrets.
        "pulumi_gcp.compute", "pulumi_gcp.secretmanager", "pulumi_gcp.storage",
        "pulumi_kubernetes.autoscaling.v2", "pulumi_kubernetes.rbac.v1",
        # Of the packages that it uses, modules that it does not.
        "pulumi_gcp.container.attached_cluster", "pulumi_kubernetes.core.v1.Pod", "pulumi_docker.service",
        # What nothing of this program is made of.
        "pulumi_kubernetes.helm", "pulumi_kubernetes.yaml", "pulumi_kubernetes.extensions.v1beta1",
    ],
)  # fmt: skip
def test_the_program_does_not_load(module: str) -> None:
    assert not [each for each in dev_program()["modules"] if f"{each}.".startswith(f"{module}.") and not _is_lazy(each)]


def _is_lazy(module: str) -> bool:
    """The SDKs put a placeholder for each of their packages, whose own modules come when one of them is asked for."""
    package = f"{module}."
    return module.startswith("pulumi_") and not any(each.startswith(package) for each in dev_program()["modules"])


#: Prints the names of SDK packages that are not what their modules define; each module is loaded before its names are asked for.
_NAMES = """
import importlib, inspect, json, re
from components import interpreter
interpreter.prepare()

wrong, compared = [], 0
for package in map(importlib.import_module, ("pulumi_docker", "pulumi_gcp.organizations", "pulumi_kubernetes.policy.v1")):
    for name in reversed(re.findall(r"^from [.](\\w+) import [*]$", inspect.getsource(package), re.MULTILINE)):
        module = importlib.import_module(f"{package.__name__}.{name}")
        compared += len(module.__all__)
        wrong += [each for each in module.__all__ if getattr(package, each) is not getattr(module, each)]
    wrong += [each for each in ("Absent", "outputs_", "__absent__") if hasattr(package, each)]
print(json.dumps({"wrong": wrong, "compared": compared}))
"""


def test_every_name_of_an_sdk_package_is_there_though_its_modules_are_not_loaded_yet() -> None:
    result = _printed(["-c", _NAMES])
    assert result["wrong"] == []
    assert result["compared"] > 100


def test_the_programs_interpreter_collects_no_garbage_and_traverses_none_at_its_end() -> None:
    program = dev_program()
    assert not program["collects"]
    assert program["frozen"]


def test_the_programs_interpreter_leaves_an_interruption_to_the_engine_and_says_nothing() -> None:
    script = "import time; from components import interpreter; interpreter.prepare(); print('ready', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == ""
    assert process.returncode == 130


def test_settings_are_read_once() -> None:
    with mock.patch.object(settings, "load", wraps=settings.load) as load:
        run_program_anew()
    assert load.call_count == 1


@pytest.mark.parametrize("module", ["kubernetes", "pulumi", "grpc", "requests", "rich", "sandbox.gke.cloud", "sandbox.node_agent"])
def test_the_sandboxs_commands_do_not_load_before_one_needs_it(module: str) -> None:
    assert module not in _loaded_by("sandbox.__main__")


@pytest.mark.parametrize("module", ["pulumi", "sandbox.node_agent"])
def test_looking_at_the_sandbox_does_not_load(module: str) -> None:
    assert module not in _loaded_by("sandbox.cli.status")


def test_an_engine_that_connects_makes_the_stand_ins_read_no_file_of_a_project_again(tmp_path: Path) -> None:
    environment = {"PATH": "", "HOME": str(tmp_path)}
    builder = ImageBuilder(ImageStore(tmp_path / "images"), state_dir=tmp_path, spawner=cast(Any, None), environment=environment)
    running = providers.serve(cast(Any, None), builder, tmp_path, environment, Clock(100))
    try:
        with mock.patch.object(providers, "programs", side_effect=AssertionError("read again")):
            client = Client(running.servers["docker"])
            assert client.version()
            client.close()
    finally:
        running.stop()
