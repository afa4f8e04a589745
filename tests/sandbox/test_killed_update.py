"""The engine killed while the cluster is being made, on a sandbox of its own: the same command again is all it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.cli.client import Sandbox, fresh_sandbox
from tests.sandbox.conftest import ROOT

pytestmark = pytest.mark.drill

_PATIENCE = 300.0


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox whose first `up` lost its engine in the middle of the cluster's creation, which goes on in the cloud."""
    with fresh_sandbox("killed") as sandbox:
        printed = tmp_path_factory.mktemp("killed") / "up.txt"
        with printed.open("w") as output:
            up = subprocess.Popen(
                [sys.executable, "-m", "sandbox", "up"],
                cwd=ROOT,
                env=sandbox.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            deadline = time.monotonic() + _PATIENCE
            while "gcp:container:Cluster cluster creating" not in printed.read_text():
                assert up.poll() is None, printed.read_text()
                assert time.monotonic() < deadline, printed.read_text()
                time.sleep(0.05)
            os.kill(engine_of(up.pid), signal.SIGKILL)
            assert up.wait(timeout=60) == 1
        yield sandbox


def engine_of(parent: int) -> int:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text()
        except OSError:
            continue
        if "(pulumi)" in fields and int(fields.rpartition(")")[2].split()[1]) == parent:
            return int(entry.name)
    raise AssertionError(f"process {parent} has no engine")


def test_the_next_up_recovers_by_itself_and_makes_nothing_twice(killed: Sandbox) -> None:
    again = killed.command("up")
    words = " ".join(again.stdout.split())
    assert "An update of the stack was killed: took away the lock of process" in words
    assert "is there, and in the state now: gcp:container/cluster:Cluster cluster, projects/sandbox-project/" in words
    assert "Answered" in again.stdout
    assert len(list(killed.state.glob("clusters/*"))) == 1
    assert killed.preview() == {}
    deployment = json.loads(killed.pulumi("stack", "export").stdout)["deployment"]
    assert not deployment.get("pending_operations")
