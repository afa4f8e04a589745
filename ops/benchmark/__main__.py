"""How fast does each rung serve, and at what price? Measures one pod of each pool that serves a stack, one after the other.

The pods serve users meanwhile, who wait longer. The server's API key, if it has one, is read from the variable VLLM_API_KEY. Exit status:
0 every rung with a pod was measured, 1 one was not, 2 wrong usage, or no stack to measure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.catalog.machines import Provisioning
from components.catalog.prices import node_price
from ops.arguments import number
from ops.benchmark import report
from ops.benchmark.generator import PROGRAM, GeneratorError, Load, run
from ops.benchmark.report import Rung
from ops.smoke import target
from ops.smoke.service import KEY_VARIABLE, Failure
from ops.smoke.serving_pools import ServingPod, UnknownPool, serving_pods

_PROVISIONING: dict[str, Provisioning] = {"spot": "spot", "preemptible": "preemptible", "flex-start": "flex-start"}

_WHOLE = number(int, lambda value: 0 < value <= 100_000, "a whole number", "one from 1 to 100000")


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    load = Load(
        concurrencies=arguments.concurrency,
        rounds=arguments.rounds,
        input_tokens=arguments.input_tokens,
        output_tokens=arguments.output_tokens,
        first_token=arguments.first_token,
        token=arguments.token,
    )
    try:
        stack = target.of_stack(arguments.stack)
        # Only pods behind the stack's own address: another cluster's are refused.
        pods = serving_pods(stack, arguments.kubeconfig)
    except (target.TargetError, UnknownPool) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2
    first = {pod.pool: pod for pod in reversed(pods)}
    rungs = []
    for pool in [*stack.pools, *sorted(set(first) - set(stack.pools))]:
        print(f"measuring {pool}", file=sys.stderr)
        rungs.append(_measured(pool, first.get(pool), stack.model, load, arguments.generator))
        print(f"  {rungs[-1].skipped or 'done'}", file=sys.stderr)
    if arguments.svg:
        arguments.svg.write_text(report.picture(arguments.stack, rungs))
    found = json.dumps(report.document(arguments.stack, stack.model, load, rungs), indent=2)
    print(found if arguments.json else report.text(arguments.stack, stack.model, load, rungs))
    return int(any(rung.skipped for rung in rungs if rung.pool in first))


def _measured(pool: str, pod: ServingPod | None, model: str, load: Load, program: Path) -> Rung:
    if pod is None:
        return Rung(pool=pool, skipped=f"no pod serves there; more replicas, or `enabled: false` of the pools before {pool}, bring one")
    labels = pod.node_labels
    machine = labels.get("node.kubernetes.io/instance-type", "")
    provisioning = _PROVISIONING.get(labels.get("gke-provisioning", labels.get("cloud.google.com/gke-provisioning", "")), "on-demand")
    known: dict[str, Any] = {
        "pool": pool,
        "machine": f"{machine}, {provisioning}",
        "price": node_price(machine, provisioning, labels.get("topology.kubernetes.io/region", "")),
    }
    try:
        with pod.service(seconds=60.0) as service:
            return Rung(**known, stages=run(service.url, model, load, key=os.environ.get(KEY_VARIABLE, "").strip(), program=program))
    except (Failure, GeneratorError) as error:
        return Rung(**known, skipped=str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops benchmark", description=__doc__)
    defaults = Load()
    parser.add_argument("--stack", required=True, help="Pulumi stack whose pools are measured")
    parser.add_argument("--kubeconfig", metavar="FILE", help="of the stack's cluster; default: kubectl's own choice")
    parser.add_argument(
        "--concurrency", type=_several, default=defaults.concurrencies, metavar="N,N", help="clients at a time (default 1,8,32)"
    )
    for option, default, text in (
        ("--rounds", defaults.rounds, "requests of each client"),
        ("--input-tokens", defaults.input_tokens, "length of a prompt"),
        ("--output-tokens", defaults.output_tokens, "length of an answer"),
    ):
        parser.add_argument(option, type=_WHOLE, default=default, metavar="N", help=f"{text} (default %(default)s)")
    for option, seconds, text in (
        ("--first-token", defaults.first_token, "until the first token"),
        ("--token", defaults.token, "for each token after it"),
    ):
        parser.add_argument(option, type=float, default=seconds, metavar="S", help=f"latency goal: seconds {text} (default %(default)g)")
    parser.add_argument("--json", action="store_true", help="the result as one JSON document")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also a picture")
    parser.add_argument("--generator", type=Path, default=PROGRAM, metavar="FILE", help="the program inference-perf (default %(default)s)")
    return parser


def _several(text: str) -> Sequence[int]:
    return tuple(_WHOLE(each) for each in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
