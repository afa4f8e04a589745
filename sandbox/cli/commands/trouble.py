"""Trouble on request: stock that runs out, servers that hang or crash, APIs that give faulty answers."""

import argparse
import json
from dataclasses import asdict
from typing import get_args

from sandbox.cli import arguments as kinds
from sandbox.cli import server_faults
from sandbox.cli.arguments import Command
from sandbox.cli.lifecycle import SandboxError, require_running
from sandbox.google.faults import ANSWERS, APIS, SLOW_SECONDS, FaultStore, Rule
from sandbox.google.stock import Stock, Supply, require_pool
from sandbox.host.daemon_record import DaemonRecord
from sandbox.host.paths import Paths
from sandbox.servers import model_server


def _stock_arguments(stock: argparse.ArgumentParser) -> None:
    stock.add_argument("pool", help="name of the accelerator pool")
    stock.add_argument("supply", choices=get_args(Supply), help="out: new machines are refused; hold: neither given nor refused; in: given")


def _stock(paths: Paths, arguments: argparse.Namespace) -> int:
    require_pool(paths, arguments.pool)
    Stock(paths.stock).set(arguments.pool, arguments.supply)
    words = {
        "in": "is in stock",
        "out": "is out of stock: existing machines stay, and new ones are refused",
        "hold": "is held: requests for machines are neither filled nor refused, and wait until stock is back",
    }
    print(f"{arguments.pool} {words[arguments.supply]}")
    return 0


def _hang_arguments(hang: argparse.ArgumentParser) -> None:
    hang.add_argument("pod")
    hang.add_argument("--engine", action="store_true", help="only its engine: /health still says 200, and no request is answered")


def _hang(paths: Paths, arguments: argparse.Namespace) -> int:
    record = require_running(paths)
    if arguments.engine:
        _stand_in_only(record, "hang --engine")
    server_faults.make(paths, arguments.pod, "hang engine" if arguments.engine else "hang")
    health = "its health still good" if arguments.engine else "connections accepted"
    print(f"the server of pod {arguments.pod} hangs: {health}, nothing answered; the probes will find it")
    return 0


def _crash_arguments(crash: argparse.ArgumentParser) -> None:
    crash.add_argument("pod")
    crash.add_argument("--once", action="store_true", help="only kill it, as when memory runs out")


def _crash(paths: Paths, arguments: argparse.Namespace) -> int:
    record = require_running(paths)
    if not arguments.once:
        _stand_in_only(record, "crash")
    server_faults.make(paths, arguments.pod, "die" if arguments.once else "crash")
    after = "starts again" if arguments.once else "fails at every start; `kubectl delete pod` replaces it"
    print(f"the server of pod {arguments.pod} died, and {after}")
    return 0


def _stand_in_only(record: DaemonRecord, command: str) -> None:
    if record.server != model_server.STAND_IN:
        raise SandboxError(f"{command}: only the stand-in for vLLM can do that; the sandbox runs --server {record.server}")


def _faults_arguments(parser: argparse.ArgumentParser) -> None:
    faults = parser.add_subparsers(required=True, metavar="ACTION")
    add = faults.add_parser("set", help="give them from now on, in place of what was set for the API")
    add.set_defaults(action=_faults_set)
    add.add_argument("--api", choices=APIS, required=True, help="whose; kubernetes is for clients from outside of the cluster")
    add.add_argument(
        "--answer",
        choices=ANSWERS,
        required=True,
        help="a status, slow, dropped (the connection breaks before anything is done) or lost (it breaks after)",
    )
    how = add.add_mutually_exclusive_group(required=True)
    how.add_argument("--rate", type=kinds.share, help="each request with this chance, such as 0.05")
    how.add_argument("--burst", type=kinds.count, help="so many requests, one after the other")
    add.add_argument("--after", type=int, default=0, help="how many requests before a burst are answered truly (default 0)")
    add.add_argument("--seed", type=int, default=0, help="of the chance (default 0)")
    add.add_argument(
        "--seconds", type=kinds.seconds, help="of a slow answer: of the cloud's clock (default 60), or for kubernetes real ones (3)"
    )
    clear = faults.add_parser("clear", help="only true answers from now on")
    clear.set_defaults(action=_faults_clear)
    clear.add_argument("--api", choices=APIS, help="of this API alone")
    show = faults.add_parser("show", help="what is set, and how often it was given")
    show.set_defaults(action=_faults_show)
    show.add_argument("--json", action="store_true", help="as one JSON document, with every request that got one")


def _faults(paths: Paths, arguments: argparse.Namespace) -> int:
    status: int = arguments.action(paths, arguments)
    return status


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


COMMANDS: dict[str, Command] = {
    "stock": (_stock_arguments, _stock),
    "hang": (_hang_arguments, _hang),
    "crash": (_crash_arguments, _crash),
    "faults": (_faults_arguments, _faults),
}
