"""Faults of a server that a person, a test or a drill makes on purpose: it hangs, its engine hangs, it dies, it does not start.

Signals to the process in the pod's container, as one would send them on the node; and a file in the pod's folder, which the stand-in
for vLLM looks for when it starts. A pod that is deleted takes its faults with it. Left out: real vLLM's own ways to fail.
"""

import os
import signal
from pathlib import Path
from typing import Literal

from sandbox.cli.lifecycle import SandboxError, marked_processes
from sandbox.host.paths import Paths
from sandbox.host.processes import command_line, processes_with
from sandbox.node_agent.pod import crash_file

Fault = Literal["hang", "hang engine", "die", "crash"]

#: Arguments by which a server is known: the program's, or the module's in an image without the program.
_SERVER = {"serve", "vllm.entrypoints.openai.api_server"}


_SIGNALS = {
    "hang": signal.SIGSTOP,
    "hang engine": signal.SIGUSR1,
    # As the kernel does when memory runs out.
    "die": signal.SIGKILL,
    "crash": signal.SIGKILL,
}


class FaultError(SandboxError):
    """There is nothing to make the fault in; the message says what there is."""


def make(paths: Paths, pod: str, fault: Fault) -> None:
    """Raises `FaultError` unless a server runs in the pod."""
    pids = _servers(paths, pod)
    if not pids:
        raise FaultError(f"no server runs in a pod {pod!r}; `python -m sandbox status` names the pods, and which are running")
    if fault == "crash":
        for folder in _folders(paths, pod):
            crash_file(folder).touch()
    for pid in pids:
        os.kill(pid, _SIGNALS[fault])


def _servers(paths: Paths, pod: str) -> list[int]:
    """Pids of the servers in the pod's containers: those that idle have none."""
    in_pod = set(marked_processes(paths)) & set(processes_with("SANDBOX_POD_NAME", pod))
    return [pid for pid in in_pod if _SERVER & set(command_line(pid))]


def _folders(paths: Paths, pod: str) -> list[Path]:
    """`pod_folder` of every namespace; a pod's name may hold no underscore."""
    return [each for each in paths.state.glob("clusters/*/pods/*") if each.name.split("_")[1] == pod]
