"""The command line kubectl, for what the Python client does not do well: deleting and waiting, `exec`, and ports of pods."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_SECONDS = 30.0


class KubectlError(Exception):
    """The message is kubectl's own."""


class Kubectl:
    def __init__(self, namespace: str, kubeconfig: str | None) -> None:
        """`kubeconfig`: a file; None for kubectl's own choice."""
        # The one that requirements-dev.txt has is beside the interpreter, which need not be on PATH.
        kubectl = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
        self._command = [kubectl, *(["--kubeconfig", kubeconfig] if kubeconfig else []), "--namespace", namespace]

    def __call__(self, *arguments: str, seconds: float = 60.0) -> str:
        """What it prints. Raises `KubectlError`."""
        try:
            return subprocess.run(
                [*self._command, *arguments], capture_output=True, text=True, timeout=seconds, check=True, stdin=subprocess.DEVNULL
            ).stdout
        except subprocess.CalledProcessError as error:
            raise KubectlError(error.stderr.strip()[-300:] or f"kubectl ended with {error.returncode}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KubectlError(f"kubectl cannot be run ({type(error).__name__})") from error

    @contextmanager
    def forwarded(self, pod: str, port: int) -> Iterator[int]:
        """The port of this machine's loopback address that leads to the pod's. Raises `KubectlError`."""
        command = [*self._command, "port-forward", f"pod/{pod}", f":{port}", "--address=127.0.0.1"]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError as error:
            raise KubectlError(f"kubectl cannot be run ({type(error).__name__})") from error
        assert process.stdout is not None
        patience = threading.Timer(_START_SECONDS, process.kill)
        patience.start()
        try:
            said = ""
            for line in process.stdout:
                if found := re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", line):
                    break
                said += line
            else:
                raise KubectlError(said.strip()[-300:] or f"kubectl port-forward ended, or said nothing for {_START_SECONDS:g} s")
            patience.cancel()
            # It prints a line for each connection.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield int(found[1])
        finally:
            patience.cancel()
            process.kill()
            process.wait()
