"""Shows the ladder of a cluster as it is now: which rung serves, idles or waits, and why. It changes nothing.

With --stack the rungs' machines and prices are known before they have nodes. The server's API key, if it has one, is read from the variable
VLLM_API_KEY. Exit status: 0, or 2 where there is nothing to show.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from components.settings import stack_files
from components.settings.problems import SettingsError
from components.settings.settings import load_stack
from ops.live import rungs, terminal
from ops.live.chat import Chat
from ops.live.cluster import Cluster, ClusterError, namespace_of_service
from ops.live.server import LiveServer
from ops.smoke.service import KEY_VARIABLE
from ops.smoke.target import Target, TargetError, of_stack

_FIRST_SECONDS = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    pools: tuple[rungs.Pool, ...] = ()
    try:
        if arguments.stack:
            target = of_stack(arguments.stack)
            pools = rungs.pools_of(load_stack(arguments.stack))
        else:
            namespace, url = namespace_of_service(arguments.kubeconfig)
            target = Target(service_url=url, model="", namespace=namespace)
    except (TargetError, ClusterError, stack_files.StackFileError, SettingsError) as error:
        print(f"live: {error}", file=sys.stderr)
        return 2
    cluster = Cluster(arguments.kubeconfig, target.namespace, pools)
    cluster.start()
    if not cluster.wait(_FIRST_SECONDS):
        print(f"live: the cluster of the kubeconfig has said nothing for {_FIRST_SECONDS:g} s", file=sys.stderr)
        return 2
    if arguments.terminal:
        terminal.watch(cluster.document)
    chat = Chat(target.service_url, cluster.document, model=target.model, key=os.environ.get(KEY_VARIABLE, "").strip())
    about = {"title": target.cluster_name or target.stack or "the kubeconfig's cluster", "service": target.service_url, "note": ""}
    server = LiveServer(cluster.document, chat, about, port=arguments.port)
    print(f"{server.url}\nshows the ladder to whoever has this address, on this machine; Ctrl-C ends it", flush=True)
    server.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops live", description=__doc__)
    parser.add_argument("--stack", help="Pulumi stack whose outputs and settings say what to show; default: what the cluster has")
    parser.add_argument("--kubeconfig", metavar="FILE", help="the cluster; default: kubectl's own choice")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; a free one by default")
    parser.add_argument("--terminal", action="store_true", help="show it here, without a browser")
    return parser


if __name__ == "__main__":
    sys.exit(main())
