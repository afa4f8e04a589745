"""`python -m sandbox live` and `status --watch`: the ladder as `ops.live` shows it, and buttons that make trouble."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from components.settings.settings import load_stack
from ops.live import terminal
from ops.live.chat import Chat
from ops.live.cluster import Cluster
from ops.live.rungs import pools_of
from ops.live.server import LiveServer, Refused
from sandbox.cli import screens, server_faults
from sandbox.cli.arguments import Command
from sandbox.cli.arguments import port as port_number
from sandbox.cli.lifecycle import SandboxError, require_running
from sandbox.cli.stack import STACK, SandboxStack
from sandbox.cli.status import ClusterView
from sandbox.google.latencies import NOTICE_SECONDS
from sandbox.google.stock import Stock
from sandbox.host.paths import Paths

_FIRST_SECONDS = 20.0

#: More replicas than machines of any rung only wait; and each is a process of this machine.
_MOST_REPLICAS = 12


class Trouble:
    """What the page's buttons do; each call is one press, whose fields come from the page and are checked here."""

    def __init__(self, paths: Paths, namespace: str) -> None:
        self._paths, self._namespace, self._view = paths, namespace, ClusterView(paths)

    def __call__(self, asked: Mapping[str, Any]) -> str:
        """Raises `Refused`."""
        match asked:
            case {"action": "scale", "replicas": int(replicas)} if 0 <= replicas <= _MOST_REPLICAS:
                self._view.scale(self._namespace, "vllm", replicas)
                return f"The Deployment asks for {replicas} replicas now."
            case {"action": "stock", "pool": str(pool), "supply": "in" | "out" as supply} if pool in self._pools():
                Stock(self._paths.stock).set(pool, supply)
                there = "in stock again" if supply == "in" else "out of stock: its machines stay, and new ones are refused"
                return f"{pool} is {there}."
            case {"action": "preempt", "pool": str(pool)}:
                return self._done(lambda: self._preempt(pool))
            case {"action": "hang", "pod": str(pod)}:
                return self._done(lambda: self._hang(pod))
        raise Refused(f"the sandbox cannot do that (replicas: 0 to {_MOST_REPLICAS}; pools: {', '.join(sorted(self._pools()))})")

    def _pools(self) -> set[str]:
        return {pool.name for pool in declared(self._paths)}

    def _done(self, do: Any) -> str:
        try:
            return str(do())
        except SandboxError as error:
            raise Refused(str(error)) from error

    def _preempt(self, pool: str) -> str:
        node = self._view.preemptible_node(pool)
        self._view.preempt(node, NOTICE_SECONDS)
        return f"Google takes {node} back, with {NOTICE_SECONDS:g} s of notice."

    def _hang(self, pod: str) -> str:
        server_faults.make(self._paths, pod, "hang")
        return f"The server of {pod} hangs; its probes will find it."


def declared(paths: Paths) -> Any:
    """The pools of the sandbox's stack."""
    return pools_of(load_stack(STACK, file=paths.stack_config))


def cluster_of(paths: Paths) -> tuple[Cluster, dict[str, Any]]:
    """Watches the sandbox's cluster from now on; with the stack's outputs. Raises `SandboxError` and `StackError`."""
    outputs = SandboxStack(paths, require_running(paths)).service_outputs()
    cluster = Cluster(str(paths.own_kubeconfig), outputs["namespace"], declared(paths), lambda: dict(Stock(paths.stock).short()))
    cluster.start()
    if not cluster.wait(_FIRST_SECONDS):
        raise SandboxError(f"the API server has said nothing for {_FIRST_SECONDS:g} s; `python -m sandbox logs` shows the daemon's log")
    return cluster, outputs


def _arguments(live: argparse.ArgumentParser) -> None:
    live.add_argument("--port", type=port_number, default=0, help="port on 127.0.0.1; a free one by default")


def _live(paths: Paths, arguments: argparse.Namespace) -> int:
    cluster, outputs = cluster_of(paths)
    key = ClusterView(paths).api_key(outputs["namespace"]) or ""
    chat = Chat(outputs["service_url"], cluster.document, model=outputs["model"], key=key)
    about = {"title": outputs["cluster_name"], "service": outputs["service_url"], "note": screens.notice(require_running(paths).server)}
    server = LiveServer(cluster.document, chat, about, Trouble(paths, outputs["namespace"]), arguments.port)
    print(f"{server.url}\nopen this address in a browser on this machine; Ctrl-C ends the page, and the sandbox stays", flush=True)
    server.run()
    return 0


def watch(paths: Paths) -> None:
    """`status --watch`, until SIGINT."""
    terminal.watch(cluster_of(paths)[0].document, screens.console)


COMMANDS: dict[str, Command] = {"live": (_arguments, _live)}
