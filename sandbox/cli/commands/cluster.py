"""Commands on the running service and cluster: status, chat, traffic, scaling, and preemption."""

import argparse
import json
import sys
import time
from importlib import import_module

from sandbox.cli import arguments as kinds
from sandbox.cli import screens
from sandbox.cli.arguments import Command
from sandbox.cli.lifecycle import SandboxError, require_running
from sandbox.cli.stack import SandboxStack
from sandbox.cli.status import SETTLE_SECONDS, ClusterView, chat, status_document
from sandbox.cli.traffic import Traffic
from sandbox.google.latencies import NOTICE_SECONDS, POD_SECONDS, SILENT_SECONDS
from sandbox.host.doors import how_to_reach
from sandbox.host.paths import Paths


def _status_arguments(status: argparse.ArgumentParser) -> None:
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as one JSON document")
    form.add_argument("--watch", action="store_true", help="the ladder as it changes, until Ctrl-C")


def _status(paths: Paths, arguments: argparse.Namespace) -> int:
    if arguments.watch:
        # Its libraries take half a second, which no other command should.
        import_module("sandbox.cli.commands.live").watch(paths)
    record = require_running(paths)
    stack = SandboxStack(paths, record)
    outputs = stack.outputs()
    document = status_document(paths, outputs.get("service_url"))
    if arguments.json:
        print(json.dumps(document, indent=2))
        return 0
    screens.console.print(f"service {document['service_url'] or '(none yet)'}")
    if how := how_to_reach(paths, document["service_url"] or ""):
        screens.console.print(f"from a shell: curl {how} {document['service_url']}/models", soft_wrap=True)
    screens.console.print(screens.cluster_table(document, outputs.get("accelerator_pools", [])))
    if short := screens.stock_line(document):
        screens.console.print(f"stock: {short}")
    screens.console.print(screens.notice(record.server), style="dim")
    return 0


def _chat_arguments(ask: argparse.ArgumentParser) -> None:
    ask.add_argument("question")


def _chat(paths: Paths, arguments: argparse.Namespace) -> int:
    outputs = SandboxStack(paths, require_running(paths)).service_outputs()
    key = ClusterView(paths).api_key(outputs["namespace"])
    answer = chat(outputs["service_url"], outputs["model"], arguments.question, key)
    print(answer.text)
    standin = f"pod {answer.pod}, node {answer.node}, pool {answer.pool}; sandbox stand-in"
    # Only the stand-in reports where it runs.
    place = standin if answer.pod else "real vLLM, random weights"
    print(f"[{answer.model}; {place}]", file=sys.stderr)
    return 0


def _scale_arguments(scale: argparse.ArgumentParser) -> None:
    scale.add_argument("replicas", type=kinds.replicas)
    scale.add_argument("--timeout", type=float, default=SETTLE_SECONDS, help="seconds to wait (default %(default)g)")


def _scale(paths: Paths, arguments: argparse.Namespace) -> int:
    outputs = SandboxStack(paths, require_running(paths)).service_outputs()
    view = ClusterView(paths)
    started = time.monotonic()
    view.scale(outputs["namespace"], "vllm", arguments.replicas)
    with screens.progress() as report:
        report(f"scaling to {arguments.replicas} and waiting until every replica has settled", None)
        # The controllers see the change a moment later.
        time.sleep(1)
        settled = view.wait_until_settled(arguments.timeout)
    screens.console.print(screens.cluster_table(status_document(paths, outputs["service_url"]), outputs["accelerator_pools"]))
    if not settled:
        raise SandboxError(f"not settled after {arguments.timeout:.0f} s; `kubectl describe pods` says what is missing")
    screens.console.print(f"settled after {time.monotonic() - started:.0f} s (sandbox clock)", style="dim")
    return 0


def _preempt_arguments(preempt: argparse.ArgumentParser) -> None:
    preempt.add_argument("target", help="name of the node, or of the accelerator pool that loses one")
    preempt.add_argument("--notice", type=kinds.seconds, default=NOTICE_SECONDS, help="seconds of notice, 0 for none (default %(default)g)")


def _preempt(paths: Paths, arguments: argparse.Namespace) -> int:
    require_running(paths)
    view = ClusterView(paths)
    node = view.preemptible_node(arguments.target)
    view.preempt(node, arguments.notice)
    after = f"its pods end within {min(POD_SECONDS, arguments.notice):g} s"
    if not arguments.notice:
        after = f"its pods are gone, and Kubernetes knows in {SILENT_SECONDS:g} s"
    print(f"node {node} is preempted with {arguments.notice:g} s of notice: {after}")
    return 0


def _traffic_arguments(load: argparse.ArgumentParser) -> None:
    load.add_argument("--seconds", type=kinds.seconds, default=30.0, help="for how long (default %(default)g)")
    load.add_argument("--rate", type=kinds.rate, default=5.0, help="requests a second (default %(default)g)")
    load.add_argument("--tokens", type=kinds.tokens, default=(16, 64), help="lengths of answers, in turn (default 16,64)")
    load.add_argument("--keep-alive", action="store_true", help="keep connections open; by default each request has its own")
    load.add_argument("--http2", action="store_true", help="one HTTP/2 connection to a gateway")
    load.add_argument(
        "--retries", type=int, default=0, help="tries after one that failed, as OpenAI's client makes them (default %(default)d)"
    )
    load.add_argument("--json", action="store_true", help="as one JSON document")


def _traffic(paths: Paths, arguments: argparse.Namespace) -> int:
    outputs = SandboxStack(paths, require_running(paths)).service_outputs()
    if arguments.http2 and not outputs["service_url"].startswith("https:"):
        raise SandboxError(
            f"--http2: {outputs['service_url']} has no TLS, which HTTP/2 needs; leave it out, or set `gateway` with a host name"
        )
    traffic = Traffic(
        outputs["service_url"],
        outputs["model"],
        rate=arguments.rate,
        keep_alive=arguments.keep_alive,
        http2=arguments.http2,
        retries=arguments.retries,
        max_tokens=arguments.tokens,
    )
    traffic.start()
    try:
        time.sleep(arguments.seconds)
    except KeyboardInterrupt:
        print("stops; waits for the answers under way", file=sys.stderr)
    report = traffic.stop()
    if arguments.json:
        print(json.dumps(report.as_document(), indent=2))
    else:
        screens.console.print(screens.traffic_table(report.as_document()))
    return 1 if report.count("failed") or report.count("cut") else 0


COMMANDS: dict[str, Command] = {
    "status": (_status_arguments, _status),
    "chat": (_chat_arguments, _chat),
    "scale": (_scale_arguments, _scale),
    "preempt": (_preempt_arguments, _preempt),
    "traffic": (_traffic_arguments, _traffic),
}
