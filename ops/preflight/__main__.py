"""`python -m ops preflight --stack NAME`: whether the stack's project is ready for `pulumi up`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Sequence

from components.settings import stack_files
from components.settings.problems import SettingsError
from components.settings.settings import load_stack
from ops import cost
from ops.arguments import number
from ops.cost import report as cost_report
from ops.preflight.calls import Web
from ops.preflight.checks import CHECKS, permissions
from ops.preflight.context import Context
from ops.preflight.google import Google
from ops.preflight.pulumi_cli import PulumiCli
from ops.preflight.report import Report
from ops.preflight.runner import run_checks

_SECONDS = number(float, lambda value: 0 < value <= 3600, "a number of seconds", "one above 0, up to 3600")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 nothing failed, 1 a check failed (with --strict also: a warning), 2 wrong arguments or settings."""
    arguments = _parser().parse_args(argv)
    try:
        settings = load_stack(arguments.stack, {"gcp:project": arguments.project} if arguments.project else None)
    except (stack_files.StackFileError, SettingsError) as error:
        print(f"preflight: {error}", file=sys.stderr)
        return 2
    # What they have to say is in the findings; a missing quota project is given with every request.
    warnings.filterwarnings("ignore", module="google.auth")
    logging.getLogger("google.auth").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    web = Web(request_seconds=arguments.request_timeout, endpoint=arguments.endpoint)
    context = Context(
        stack=arguments.stack, settings=settings, google=Google(settings.place.project, web), web=web, pulumi=PulumiCli(arguments.stack)
    )
    start = time.monotonic()
    checks = [check for check in CHECKS if not (arguments.reader and check is permissions.CHECK)]
    outcomes = run_checks(checks, context, seconds=arguments.timeout)
    report = Report(
        stack=arguments.stack,
        project=settings.place.project,
        region=settings.place.region,
        outcomes=outcomes,
        seconds=time.monotonic() - start,
    )
    if arguments.json:
        print(json.dumps(report.document(strict=arguments.strict), indent=2))
    else:
        print(report.text())
        print(f"\n{cost_report.text(arguments.stack, settings.place.region, cost.estimate(settings))}")
    return 0 if report.passed(strict=arguments.strict) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops preflight",
        description="Checks a stack's project before `pulumi up`; reads only. Exit status: 0 nothing failed, 1 a check failed, "
        "2 wrong arguments or settings.",
    )
    parser.add_argument("--stack", required=True, metavar="NAME", help="the stack whose settings are checked, such as dev")
    parser.add_argument("--project", metavar="ID", help="project to check in place of the stack's gcp:project")
    parser.add_argument("--json", action="store_true", help="print a document for programs (docs/preflight.md)")
    parser.add_argument("--strict", action="store_true", help="a warning counts as a failure")
    parser.add_argument(
        "--reader", action="store_true", help="do not check permissions: for an account that may only look, as a preview does"
    )
    parser.add_argument("--timeout", type=_SECONDS, default=120.0, metavar="SECONDS", help="bound on the whole run (120)")
    parser.add_argument("--request-timeout", type=_SECONDS, default=10.0, metavar="SECONDS", help="bound on one request (10)")
    parser.add_argument("--endpoint", default="", metavar="URL", help="for tests: ask URL/HOST instead of https://HOST, for every host")
    return parser


if __name__ == "__main__":
    sys.exit(main())
