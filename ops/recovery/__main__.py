"""`python -m ops recovery --stack NAME`: after an update or a destroy was killed, so that the next one goes on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from components.settings.stack_files import PROJECT_DIR
from ops.pulumi_command import PulumiError
from ops.recovery.monitoring import Monitoring
from ops.recovery.pulumi_stack import PulumiStack
from ops.recovery.recover import Refused, recover


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 the next update can come, 1 it cannot yet and the message says why, 2 wrong arguments."""
    arguments = _parser().parse_args(argv)
    try:
        outcome = recover(
            PulumiStack(arguments.stack, os.environ, PROJECT_DIR),
            listing=Monitoring().ids,
            say=lambda text: print(f"recovery: {text}", file=sys.stderr),
            take_lock=arguments.take_lock,
            given=dict(arguments.id),
        )
    except (PulumiError, Refused) as error:
        print(f"recovery: {error}", file=sys.stderr)
        return 1
    print(outcome.text(arguments.stack))
    return 1 if outcome.undecided else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops recovery",
        description="After an update or a destroy was killed: takes its lock away, finds what it had begun, and brings the "
        "state up to date. Changes nothing in the cloud. Exit status: 0 done, 1 not yet, 2 wrong arguments.",
    )
    parser.add_argument("--stack", required=True, metavar="NAME", help="the stack, such as dev")
    parser.add_argument(
        "--take-lock",
        action="store_true",
        help="take away a lock of another machine or of Pulumi Cloud: you know that its update does not run any more",
    )
    parser.add_argument(
        "--id",
        action="append",
        default=[],
        type=_named_id,
        metavar="URN=ID",
        help="what a resource is called that cannot be found otherwise; URN= for one that was not made",
    )
    return parser


def _named_id(text: str) -> tuple[str, str]:
    urn, separator, id = text.partition("=")
    if not separator or not urn.startswith("urn:pulumi:"):
        raise argparse.ArgumentTypeError(f"{text!r}: give the URN that was printed, =, and the import id")
    return urn, id


if __name__ == "__main__":
    sys.exit(main())
