"""`python -m sandbox up`: builds what is missing, starts everything, runs `pulumi up`, and asks the model something."""

import argparse
import os
import signal
import sys

from rich.markup import escape

from ops.smoke import checks as smoke_checks
from ops.smoke.service import KEY_VARIABLE
from ops.smoke.target import of_outputs
from sandbox.cli import arguments as kinds
from sandbox.cli import lifecycle, screens
from sandbox.cli.arguments import Command
from sandbox.cli.lifecycle import SandboxError, Terminated
from sandbox.cli.stack import STACK, StackError
from sandbox.cli.stack_update import StackUpdate, has_gateway, model_of, scales_on_metrics
from sandbox.cli.status import SETTLE_SECONDS, ClusterView, ServiceError, status_document, wait_for_chat
from sandbox.host import disk_space
from sandbox.host.doors import use_doors
from sandbox.host.paths import Paths
from sandbox.host.state_files import StateError
from sandbox.servers import model_server
from sandbox.servers.real.install import RealVllm
from sandbox.toolchain.tools import GATEWAY_TOOLS, METRICS_TOOLS, Toolbox

_ANSWER_SECONDS = {model_server.STAND_IN: 120.0, model_server.VLLM: 600.0}

#: Limits of the smoke test; generous for real vLLM, whose speed on this machine's CPU does not matter.
_SMOKE_LIMITS = {
    model_server.STAND_IN: {"healthy": 60.0},
    model_server.VLLM: {"healthy": 120.0, "request": 300.0, "first_token": 120.0, "total": 240.0},
}

_QUESTION = "Why is the sky blue?"


def _arguments(up: argparse.ArgumentParser) -> None:
    up.add_argument("--environment", default="dev", help="whose settings to run: dev for Pulumi.dev.yaml (the default)")
    up.add_argument(
        "--server",
        choices=model_server.NAMES,
        help="what the pods run: the quick stand-in (the default), or real vLLM on this machine's CPU with a tiny model of "
        "random weights (first installs 6 GB)",
    )
    up.add_argument("--prepare", action="store_true", help="stop before `pulumi up`, to run that yourself")
    up.add_argument("--port", type=kinds.port, help="port of the service; a free one by default")


def _terminate(*_: object) -> None:
    raise Terminated


def _up(paths: Paths, arguments: argparse.Namespace) -> int:
    with lifecycle.exclusive(paths):
        signal.signal(signal.SIGTERM, _terminate)
        return _up_alone(paths, arguments)


def _up_alone(paths: Paths, arguments: argparse.Namespace) -> int:
    console = screens.console
    console.print("[bold]tpu-gpu-fungibility[/] sandbox (simulated hardware, no cloud account)")
    if not paths.daemon_record.exists():
        disk_space.require(paths.state, disk_space.STATE_MB, "the sandbox's state")
    with screens.progress() as report:
        toolbox = Toolbox(paths, report)
        toolbox.ensure()
        if scales_on_metrics(arguments.environment):
            # Otherwise the daemon builds them when the first adapter asks, in the middle of `pulumi up`.
            toolbox.ensure(METRICS_TOOLS)
        if has_gateway(arguments.environment):
            toolbox.ensure(GATEWAY_TOOLS)
        crashed = False
        try:
            record = lifecycle.running(paths)
        except (lifecycle.Crashed, StateError) as crash:
            console.print(f"[yellow]{escape(str(crash))}[/]")
            record, crashed = None, True
        server = arguments.server or (record.server if record else model_server.STAND_IN)
        if record is not None and record.server != server:
            raise SandboxError(
                f"--server {server}: the sandbox is running with --server {record.server}; `make down` ends it, "
                "and the next `up` can start the other"
            )
        if server == model_server.VLLM:
            RealVllm(paths, report).ensure(model_of(arguments.environment))
        if record is None:
            report("starting the stand-in cloud", None)
            record = lifecycle.start(paths, server)
    stack = StackUpdate(paths, record)
    stack.prepare(arguments.environment, arguments.port)
    if recovered := stack.recover_if_killed(lambda text: console.print(f"  {escape(text)}", style="dim")):
        console.print("[yellow]An update of the stack was killed:[/]")
        console.print(escape(recovered))
    if arguments.prepare:
        print('the stack is prepared; after eval "$(python -m sandbox env)", `pulumi up` makes it')
        return 0
    status = stack.up(lambda text: print(f"sandbox: {text}", file=sys.stderr, flush=True), after_crash=crashed)
    use_doors(paths)
    outputs = stack.outputs()
    failed = f"`pulumi up --stack {STACK}` failed (exit status {status}); its output is above"
    incomplete = stack.incomplete() if status != 0 else []
    if status != 0 and not (incomplete and outputs.get("service_url")):
        raise StackError(failed)
    with screens.progress() as report:
        report("waiting until the service answers and every replica has settled", None)
        patience = _ANSWER_SECONDS[record.server]
        view = ClusterView(paths)
        key = view.api_key(outputs["namespace"])
        try:
            wait_for_chat(outputs["service_url"], outputs["model"], "ping", patience, key)
        except ServiceError as error:
            if not incomplete:
                raise
            raise StackError(f"{failed}. Nothing serves: {error}") from error
        if not view.wait_until_settled(SETTLE_SECONDS):
            console.print(f"[yellow]still moving after {SETTLE_SECONDS:.0f} s; `python -m sandbox status` shows it[/]")
        answer = wait_for_chat(outputs["service_url"], outputs["model"], _QUESTION, patience, key)
        report("smoke test", None)
        smoke = smoke_checks.run(
            of_outputs(STACK, outputs),
            limits=smoke_checks.Limits(**_SMOKE_LIMITS[record.server]),
            # The shell may have the key of another stack's server; the sandbox's own key takes precedence.
            key=key or os.environ.get(KEY_VARIABLE, ""),
            kubeconfig=str(paths.kubeconfig),
        )
    document = status_document(paths, outputs["service_url"])
    console.print()
    console.print(smoke.text(width=console.width), markup=False, highlight=False)
    screens.summary(document, outputs["accelerator_pools"], answer, record.server)
    if incomplete:
        raise StackError(
            f"{failed}. The service is up{f' on pool {answer.pool}' if answer.pool else ''}; incomplete: {', '.join(incomplete)}. "
            "Once what was missing is available, `python -m sandbox up` completes it"
        )
    return 0 if smoke.ok else 1


COMMANDS: dict[str, Command] = {"up": (_arguments, _up)}
