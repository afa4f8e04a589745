"""Does a stack's service answer? Waits for its health, asks for a completion and a stream, and checks model, latency and node pool.

The server's API key, if it has one, is read from the variable VLLM_API_KEY. Exit status: 0 good, 1 a check failed, 2 wrong
usage, or no stack to test.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from ops.arguments import number
from ops.smoke import checks, target
from ops.smoke.service import APIS, KEY_VARIABLE

_SECONDS = number(float, lambda value: 0 < value <= 86_400, "a number of seconds", "one above 0, up to 86400")


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        what = _target(arguments)
        key = _key()
    except target.TargetError as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 2
    report = checks.run(
        what,
        limits=checks.Limits(
            healthy=arguments.timeout, request=arguments.request_timeout, first_token=arguments.max_first_token, total=arguments.max_total
        ),
        key=key,
        api=arguments.api,
        kubeconfig=arguments.kubeconfig,
        ask_cluster=not arguments.no_cluster,
        expected_pool=arguments.expect_pool,
        on_hardware=arguments.hardware,
        # Progress goes to stderr, so that stdout holds the result alone.
        report=lambda text: print(text, file=sys.stderr),
    )
    print(json.dumps(report.document(), indent=2) if arguments.json else report.text())
    return 0 if report.ok else 1


def _target(arguments: argparse.Namespace) -> target.Target:
    if arguments.stack:
        if arguments.model:
            raise target.TargetError("--model", arguments.model, "a stack's outputs name its model", "leave --model or --stack out")
        found = target.of_stack(arguments.stack)
    else:
        if not arguments.model:
            raise target.TargetError("--url", arguments.url, "needs the model's name as well", "add --model ORGANISATION/NAME")
        found = target.Target(service_url=target.check_url(arguments.url), model=arguments.model)
    if arguments.expect_pool and found.pools and arguments.expect_pool not in found.pools:
        reason, fix = f"is not a pool of stack {found.stack}", f"name one of {', '.join(found.pools)}"
        raise target.TargetError("--expect-pool", arguments.expect_pool, reason, fix)
    return found


def _key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    # requests would name the whole value in its error.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise target.TargetError(KEY_VARIABLE, None, "it holds a character that no HTTP header may", "set it to the key alone")
    return key


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops smoke", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--stack", help="Pulumi stack whose outputs say what to test")
    which.add_argument("--url", help="base URL of an OpenAI client, ending in /v1, in place of a stack; needs --model")
    parser.add_argument("--model", help="name of the model that is to answer, with --url")
    parser.add_argument("--json", action="store_true", help="the result as one JSON document")
    defaults = checks.Limits()
    for option, default, text in (
        ("--timeout", defaults.healthy, "how long to wait until the service is healthy"),
        ("--request-timeout", defaults.request, "after which a request is given up"),
        ("--max-first-token", defaults.first_token, "limit on the time to a stream's first token"),
        ("--max-total", defaults.total, "limit on the time of a completion of at most 64 tokens"),
    ):
        parser.add_argument(option, type=_SECONDS, default=default, metavar="S", help=f"seconds: {text} (default %(default)g)")
    parser.add_argument("--api", choices=APIS, default="chat", help="completions: for a model without a chat template (default chat)")
    parser.add_argument("--kubeconfig", metavar="FILE", help="to ask the cluster which pool serves; default: kubectl's own choice")
    parser.add_argument("--no-cluster", action="store_true", help="do not ask the cluster; the pool stays unknown")
    parser.add_argument("--hardware", action="store_true", help="also look into the pods by kubectl, and delete one of them under requests")
    parser.add_argument("--expect-pool", metavar="POOL", help="fail unless this accelerator pool, and no other, answers")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
