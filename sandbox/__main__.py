"""`python -m sandbox`: the project's program on this machine, without a cloud account."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

from sandbox.cli import lifecycle
from sandbox.cli.lifecycle import SandboxError
from sandbox.cli.stack import STACK, SandboxStack, StackError, model_of, scales_on_metrics
from sandbox.daemon import DaemonRecord
from sandbox.google.access_tokens import LIFETIME_SECONDS, AccessTokens, Login
from sandbox.google.faults import ANSWERS, APIS, SLOW_SECONDS, FaultStore, Rule
from sandbox.google.latencies import NOTICE_SECONDS, POD_SECONDS, SILENT_SECONDS
from sandbox.google.stock import Stock, StockError, Supply, require_pool
from sandbox.host import ca_bundle, disk_space
from sandbox.host.disk_space import NoRoom
from sandbox.host.paths import Paths
from sandbox.host.state_files import StateError, write_text
from sandbox.servers import model_server
from sandbox.servers.real.install import RealVllm
from sandbox.toolchain.tools import METRICS_TOOLS, Toolbox, ToolError

# Every test and every shell pays for what is loaded here: what a command alone needs (clients, tables), it loads itself.

_ANSWER_SECONDS = {model_server.STAND_IN: 120.0, model_server.VLLM: 600.0}
_SETTLE_SECONDS = 180.0
_RESTART_SECONDS = 90.0

#: Of the smoke test. Real vLLM on shared cores of this machine has nothing to prove about speed.
_SMOKE_LIMITS = {
    model_server.STAND_IN: {"healthy": 60.0},
    model_server.VLLM: {"healthy": 120.0, "request": 300.0, "first_token": 120.0, "total": 240.0},
}

_WHAT_STAYS = (
    " What is made so far stays, and the stand-in cloud goes on: `python -m sandbox up` goes on from there, `python -m sandbox down` "
    "ends everything."
)

QUESTION = "Why is the sky blue?"


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 failed with a message, 2 wrong arguments, 3 the sandbox is not running."""
    arguments = _parser().parse_args(argv)
    paths = Paths.from_environment()
    command: Callable[[Paths, argparse.Namespace], int] = arguments.run
    if os.environ.get(ca_bundle.VARIABLE) == str(paths.trust) and not paths.trust.exists():
        # From `env` of a sandbox that is down by now; Go would trust nobody.
        del os.environ[ca_bundle.VARIABLE]
    try:
        if not sys.platform.startswith("linux"):
            raise SandboxError(f"the sandbox runs on Linux; this is {sys.platform} (127.88.0.0/16 is not loopback there)")
        return command(paths, arguments)
    except (SandboxError, StackError, ToolError, StockError, StateError, NoRoom) as error:
        return _failed(str(error), paths)
    except KeyboardInterrupt:
        print(f"sandbox: interrupted.{_WHAT_STAYS if command is _up else ''}", file=sys.stderr)
        return 128 + signal.SIGINT
    except _Terminated:
        print(
            "sandbox: `up` was told to end (SIGTERM), as `python -m sandbox down` tells one that is under way",
            file=sys.stderr,
        )
        return 128 + signal.SIGTERM
    except Exception as error:
        from sandbox.cli.errors import explain

        message = explain(error)
        if message is None:
            raise
        return _failed(message, paths)


def _failed(message: str, paths: Paths) -> int:
    print(f"sandbox: {message}", file=sys.stderr)
    if (why := lifecycle.explain_failure(paths)) and why not in message:
        print(f"sandbox: {why}", file=sys.stderr)
    return 1


class _Terminated(BaseException):
    """SIGTERM, as `down` sends it to an `up` that is under way."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _up(paths: Paths, arguments: argparse.Namespace) -> int:
    with lifecycle.exclusive(paths):
        signal.signal(signal.SIGTERM, _terminate)
        return _up_alone(paths, arguments)


def _up_alone(paths: Paths, arguments: argparse.Namespace) -> int:
    from rich.markup import escape

    from ops.smoke import checks as smoke_checks
    from ops.smoke import screen as smoke_screen
    from ops.smoke.service import KEY_VARIABLE
    from ops.smoke.target import of_outputs
    from sandbox.cli import screens
    from sandbox.cli.status import ClusterView, ServiceError, status_document, wait_for_chat

    console = screens.console
    console.print("[bold]tpu-gpu-fungibility[/] sandbox (simulated hardware, no cloud account)")
    if not paths.daemon_record.exists():
        disk_space.require(paths.state, disk_space.STATE_MB, "the sandbox's state")
    with screens.progress() as report:
        toolbox = Toolbox(paths, report)
        toolbox.ensure()
        if scales_on_metrics(arguments.environment):
            # Else the daemon builds them when the first adapter asks, in the middle of `pulumi up`.
            toolbox.ensure(METRICS_TOOLS)
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
    stack = SandboxStack(paths, record)
    stack.prepare(arguments.environment, arguments.port)
    if recovered := stack.recover_if_killed(lambda text: console.print(f"  {escape(text)}", style="dim")):
        console.print("[yellow]An update of the stack was killed:[/]")
        console.print(escape(recovered))
    if arguments.prepare:
        print('the stack is prepared; after eval "$(python -m sandbox env)", `pulumi up` makes it')
        return 0
    status = stack.up(lambda text: print(f"sandbox: {text}", file=sys.stderr, flush=True), after_crash=crashed)
    outputs = stack.outputs()
    failed = f"`pulumi up --stack {STACK}` failed (exit status {status}); its output is above"
    incomplete = stack.incomplete() if status != 0 else []
    if status != 0 and not (incomplete and outputs.get("service_url")):
        raise StackError(failed)
    with screens.progress() as report:
        report("waiting until the service answers and every replica is where it belongs", None)
        patience = _ANSWER_SECONDS[record.server]
        view = ClusterView(paths)
        key = view.api_key(outputs["namespace"])
        try:
            wait_for_chat(outputs["service_url"], outputs["model"], "ping", patience, key)
        except ServiceError as error:
            if not incomplete:
                raise
            raise StackError(f"{failed}. Nothing serves: {error}") from error
        if not view.wait_until_settled(_SETTLE_SECONDS):
            console.print(f"[yellow]still moving after {_SETTLE_SECONDS:.0f} s; `python -m sandbox status` shows it[/]")
        answer = wait_for_chat(outputs["service_url"], outputs["model"], QUESTION, patience, key)
        report("smoke test", None)
        smoke = smoke_checks.run(
            of_outputs(STACK, outputs),
            limits=smoke_checks.Limits(**_SMOKE_LIMITS[record.server]),
            # Of another stack's server, if the shell has one; the sandbox's own comes first.
            key=key or os.environ.get(KEY_VARIABLE, ""),
            kubeconfig=str(paths.kubeconfig),
        )
    document = status_document(paths, outputs["service_url"])
    console.print()
    smoke_screen.show(smoke, console)
    screens.summary(document, outputs["accelerator_pools"], answer, record.server)
    if incomplete:
        raise StackError(
            f"{failed}. The service is up{f' on pool {answer.pool}' if answer.pool else ''}; incomplete: {', '.join(incomplete)}. "
            "When what was missing is there again, `python -m sandbox up` completes it"
        )
    return 0 if smoke.ok else 1


def _down(paths: Paths, arguments: argparse.Namespace) -> int:
    if not paths.state.exists():
        print("the sandbox is not running")
        return 0
    lifecycle.stop(paths, report=print)
    print("the sandbox is down; nothing runs any more, and only the cache of tools is kept")
    return 0


def _status(paths: Paths, arguments: argparse.Namespace) -> int:
    from sandbox.cli import screens
    from sandbox.cli.status import status_document

    record = _running(paths)
    stack = SandboxStack(paths, record)
    outputs = stack.outputs()
    document = status_document(paths, outputs.get("service_url"))
    if arguments.json:
        print(json.dumps(document, indent=2))
        return 0
    screens.console.print(f"service {document['service_url'] or '(none yet)'}")
    screens.console.print(screens.cluster_table(document, outputs.get("accelerator_pools", [])))
    if short := screens.stock_line(document):
        screens.console.print(f"stock: {short}")
    screens.console.print(screens.notice(record.server), style="dim")
    return 0


def _env(paths: Paths, arguments: argparse.Namespace) -> int:
    for name, value in SandboxStack(paths, _running(paths)).variables().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _chat(paths: Paths, arguments: argparse.Namespace) -> int:
    from sandbox.cli.status import ClusterView, chat

    outputs = _outputs(paths)
    key = ClusterView(paths).api_key(outputs["namespace"])
    answer = chat(outputs["service_url"], outputs["model"], arguments.question, key)
    print(answer.text)
    standin = f"pod {answer.pod}, node {answer.node}, pool {answer.pool}; sandbox stand-in"
    # Only the stand-in says where it runs.
    place = standin if answer.pod else "real vLLM, random weights"
    print(f"[{answer.model}; {place}]", file=sys.stderr)
    return 0


def _scale(paths: Paths, arguments: argparse.Namespace) -> int:
    from sandbox.cli import screens
    from sandbox.cli.status import ClusterView, status_document

    outputs = _outputs(paths)
    view = ClusterView(paths)
    started = time.monotonic()
    view.scale(outputs["namespace"], "vllm", arguments.replicas)
    with screens.progress() as report:
        report(f"scaling to {arguments.replicas} and waiting until every replica is where it belongs", None)
        # The controllers see the change a moment later.
        time.sleep(1)
        settled = view.wait_until_settled(arguments.timeout)
    screens.console.print(screens.cluster_table(status_document(paths, outputs["service_url"]), outputs["accelerator_pools"]))
    if not settled:
        raise SandboxError(f"not settled after {arguments.timeout:.0f} s; `kubectl describe pods` says what is missing")
    screens.console.print(f"settled after {time.monotonic() - started:.0f} s (sandbox clock)", style="dim")
    return 0


def _preempt(paths: Paths, arguments: argparse.Namespace) -> int:
    from sandbox.cli.status import ClusterView

    _running(paths)
    view = ClusterView(paths)
    node = view.preemptible_node(arguments.target)
    view.preempt(node, arguments.notice)
    after = f"its pods end within {min(POD_SECONDS, arguments.notice):g} s"
    if not arguments.notice:
        after = f"its pods are gone, and Kubernetes knows in {SILENT_SECONDS:g} s"
    print(f"node {node} is preempted with {arguments.notice:g} s of notice: {after}")
    return 0


def _stock(paths: Paths, arguments: argparse.Namespace) -> int:
    require_pool(paths, arguments.pool)
    Stock(paths.stock).set(arguments.pool, arguments.supply)
    words = {
        "in": "is in stock",
        "out": "is out of stock: machines that are there stay, and new ones are refused",
        "hold": "is neither given nor refused: requests wait until stock is back, and what waits for them, too",
    }
    print(f"{arguments.pool} {words[arguments.supply]}")
    return 0


def _hang(paths: Paths, arguments: argparse.Namespace) -> int:
    from sandbox.servers import server_faults

    record = _running(paths)
    if arguments.engine:
        _stand_in_only(record, "hang --engine")
    server_faults.make(paths, arguments.pod, "hang engine" if arguments.engine else "hang")
    health = "its health still good" if arguments.engine else "connections accepted"
    print(f"the server of pod {arguments.pod} hangs: {health}, nothing answered; the probes will find it")
    return 0


def _crash(paths: Paths, arguments: argparse.Namespace) -> int:
    from sandbox.servers import server_faults

    record = _running(paths)
    if not arguments.once:
        _stand_in_only(record, "crash")
    server_faults.make(paths, arguments.pod, "die" if arguments.once else "crash")
    after = "starts again" if arguments.once else "fails at every start; `kubectl delete pod` replaces it"
    print(f"the server of pod {arguments.pod} died, and {after}")
    return 0


def _stand_in_only(record: DaemonRecord, command: str) -> None:
    if record.server != model_server.STAND_IN:
        raise SandboxError(f"{command}: only the stand-in for vLLM can do that; the sandbox runs --server {record.server}")


def _traffic(paths: Paths, arguments: argparse.Namespace) -> int:
    from sandbox.cli import screens
    from sandbox.cli.traffic import Traffic

    outputs = _outputs(paths)
    traffic = Traffic(
        outputs["service_url"], outputs["model"], rate=arguments.rate, keep_alive=arguments.keep_alive, max_tokens=arguments.tokens
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


def _logs(paths: Paths, arguments: argparse.Namespace) -> int:
    record = _running(paths)
    if arguments.daemon:
        print(paths.daemon_log.read_text(errors="replace"), end="")
        return 0
    outputs = _outputs(paths)
    selected = [arguments.pod] if arguments.pod else ["--selector=app=vllm"]
    stack = SandboxStack(paths, record)
    return subprocess.run(
        [
            str(paths.tools / "kubectl"),
            "logs",
            "--namespace",
            outputs["namespace"],
            *selected,
            "--all-containers",
            "--prefix",
            "--tail",
            str(arguments.tail),
        ],
        env={**os.environ, **stack.variables()},
    ).returncode


def _faults_set(paths: Paths, arguments: argparse.Namespace) -> int:
    rule = Rule(
        api=arguments.api,
        answer=arguments.answer,
        rate=arguments.rate or 0.0,
        burst=arguments.burst or 0,
        after=arguments.after,
        seed=arguments.seed,
        seconds=arguments.seconds if arguments.seconds is not None else SLOW_SECONDS[arguments.api],
    )
    FaultStore(paths.state).set(rule)
    print(f"from now on {_described(rule)}; `python -m sandbox faults clear` ends it")
    return 0


def _faults_clear(paths: Paths, arguments: argparse.Namespace) -> int:
    FaultStore(paths.state).clear(arguments.api)
    return 0


def _faults_show(paths: Paths, arguments: argparse.Namespace) -> int:
    store = FaultStore(paths.state)
    rules, given = store.rules(), store.given()
    if arguments.json:
        print(json.dumps({"rules": [asdict(rule) for rule in rules], "given": given}, indent=2))
        return 0
    for rule in rules:
        count = sum(each["rule"] == rule.id for each in given)
        print(f"{_described(rule)}; given {count} times so far")
    if not rules:
        print("no faulty answers are set")
    return 0


def _described(rule: Rule) -> str:
    if rule.burst:
        which = f"{rule.burst} requests" + (f" after the next {rule.after}" if rule.after else "")
    else:
        which = f"{rule.rate:.0%} of the requests"
    return f"{which} to the {rule.api} API are answered: {rule.answer}"


def _login(paths: Paths, arguments: argparse.Namespace) -> int:
    AccessTokens(paths.state).set_login(Login(lifetime=arguments.lifetime, revoked=arguments.revoked))
    if arguments.revoked:
        print("the login is revoked: no access token is good any more; `python -m sandbox login` logs in again")
    else:
        print(f"logged in; access tokens from now on live {arguments.lifetime:g} s")
    return 0


def _restart_api_server(paths: Paths, arguments: argparse.Namespace) -> int:
    _running(paths)
    request = paths.restart_request
    write_text(request, f"{arguments.away:g}")
    deadline = time.monotonic() + arguments.away + _RESTART_SECONDS
    while request.exists():
        _running(paths)
        if time.monotonic() > deadline:
            raise SandboxError("the API server is not back yet; `python -m sandbox logs --daemon` says why")
        time.sleep(0.1)
    print(f"the API server was away for {arguments.away:g} s and answers again")
    return 0


def _running(paths: Paths) -> DaemonRecord:
    return lifecycle.require_running(paths)


def _outputs(paths: Paths) -> dict[str, Any]:
    outputs = SandboxStack(paths, _running(paths)).outputs()
    if not outputs.get("service_url"):
        raise SandboxError("the stack has no service yet; run `make up` (or `python -m sandbox up`)")
    return outputs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Paths, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    up = add("up", _up, "build what is missing, start everything, run `pulumi up`, and ask the model something")
    up.add_argument("--environment", default="dev", help="whose settings to run: dev for Pulumi.dev.yaml (the default)")
    up.add_argument(
        "--server",
        choices=model_server.NAMES,
        help="what the pods run: the quick stand-in (the default), or real vLLM on this machine's CPU with a tiny model of "
        "random weights (first installs 6 GB)",
    )
    up.add_argument("--prepare", action="store_true", help="stop before `pulumi up`, for whoever runs that themselves")
    up.add_argument("--port", type=_port, help="port of the service; a free one by default")
    add("down", _down, "end everything and remove all state; the cache of tools stays")
    status = add("status", _status, "nodes by pool, and the pods on them")
    status.add_argument("--json", action="store_true", help="as one JSON document")
    add("env", _env, 'variables for a shell: eval "$(python -m sandbox env)", then pulumi and kubectl work')
    ask = add("chat", _chat, "one chat completion from the stack's service")
    ask.add_argument("question")
    scale = add("scale", _scale, "scale the Deployment, and wait until every replica is where it belongs")
    scale.add_argument("replicas", type=_replicas)
    scale.add_argument("--timeout", type=float, default=_SETTLE_SECONDS, help="seconds to wait (default %(default)g)")
    preempt = add("preempt", _preempt, "take a Spot or preemptible node away, as Google does")
    preempt.add_argument("target", help="name of the node, or of the accelerator pool of which one is taken")
    preempt.add_argument("--notice", type=_seconds, default=NOTICE_SECONDS, help="seconds of notice, 0 for none (default %(default)g)")
    stock = add("stock", _stock, "say which pools' machines Google has; works before the first `up`, too")
    stock.add_argument("pool", help="name of the accelerator pool")
    stock.add_argument(
        "supply",
        choices=get_args(Supply),
        help="out: new machines are refused; hold: neither given nor refused; in: given",
    )
    hang = add("hang", _hang, "make the server of a pod hang without dying")
    hang.add_argument("pod")
    hang.add_argument("--engine", action="store_true", help="only its engine: /health still says 200, and no request is answered")
    crash = add("crash", _crash, "kill the server of a pod, and let it fail at every start until the pod is deleted")
    crash.add_argument("pod")
    crash.add_argument("--once", action="store_true", help="only kill it, as when memory runs out")
    load = add("traffic", _traffic, "ask the service at a steady rate and count what is answered, fails and is cut")
    load.add_argument("--seconds", type=_seconds, default=30.0, help="for how long (default %(default)g)")
    load.add_argument("--rate", type=_rate, default=5.0, help="requests a second (default %(default)g)")
    load.add_argument("--tokens", type=_tokens, default=(16, 64), help="lengths of answers, in turn (default 16,64)")
    load.add_argument("--keep-alive", action="store_true", help="keep connections open, where each request else has its own")
    load.add_argument("--json", action="store_true", help="as one JSON document")
    _add_faults(commands)
    login = add("login", _login, "log the sandbox's one Google account in, with access tokens of a life of choice, or revoke it")
    how = login.add_mutually_exclusive_group()
    how.add_argument(
        "--lifetime",
        type=_seconds,
        default=LIFETIME_SECONDS,
        help="seconds that an access token lives (default %(default)g)",
    )
    how.add_argument("--revoked", action="store_true", help="the login is gone: no token is good, and none is given")
    restart = add("restart-api-server", _restart_api_server, "kill the cluster's API server and start it again")
    restart.add_argument("--away", type=_seconds, default=1.0, help="seconds in between (default %(default)g)")
    logs = add("logs", _logs, "the containers' logs, or the daemon's")
    logs.add_argument("pod", nargs="?", help="one pod; all of the service by default")
    logs.add_argument("--daemon", action="store_true", help="the daemon's own log")
    logs.add_argument("--tail", type=int, default=20, help="lines of each container (default %(default)s)")
    return parser


def _add_faults(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "faulty answers of the stand-in cloud's and the cluster's API, to practise and to drill; also before the first `up`"
    faults = commands.add_parser("faults", help=text, description=text).add_subparsers(required=True, metavar="ACTION")
    add = faults.add_parser("set", help="give them from now on, in place of what was set for the API")
    add.set_defaults(run=_faults_set)
    add.add_argument("--api", choices=APIS, required=True, help="whose; kubernetes is for clients from outside of the cluster")
    add.add_argument(
        "--answer",
        choices=ANSWERS,
        required=True,
        help="a status, slow, dropped (the connection breaks before anything is done) or lost (it breaks after)",
    )
    how = add.add_mutually_exclusive_group(required=True)
    how.add_argument("--rate", type=_share, help="each request with this chance, such as 0.05")
    how.add_argument("--burst", type=_count, help="so many requests, one after the other")
    add.add_argument("--after", type=int, default=0, help="how many requests before a burst are answered truly (default 0)")
    add.add_argument("--seed", type=int, default=0, help="of the chance (default 0)")
    add.add_argument(
        "--seconds",
        type=_seconds,
        help="of a slow answer: of the cloud's clock (default 60), or for kubernetes real ones (3)",
    )
    clear = faults.add_parser("clear", help="only true answers from now on")
    clear.set_defaults(run=_faults_clear)
    clear.add_argument("--api", choices=APIS, help="of this API alone")
    show = faults.add_parser("show", help="what is set, and how often it was given")
    show.set_defaults(run=_faults_show)
    show.add_argument("--json", action="store_true", help="as one JSON document, with every request that got one")


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: give one above 0 and up to 1, such as 0.05")
    return share


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of requests: give 1 or more")
    return count


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is not a port: give one from 1 to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds: give one from 0 to 3600")
    return seconds


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a rate: give requests a second, above 0 and up to 100")
    return rate


def _tokens(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of lengths: give tokens such as 16,64")
    return tuple(map(int, text.split(",")))


def _replicas(text: str) -> int:
    replicas = int(text)
    if replicas < 0:
        raise argparse.ArgumentTypeError(f"{replicas} is not a number of replicas: give 0 or more")
    return replicas


if __name__ == "__main__":
    sys.exit(main())
