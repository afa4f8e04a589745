"""`python -m ops cost --stack NAME`, or `--file FILE`: what a stack costs an hour and a month, before it is there.

Exit status 0, or 2 where the settings are wrong or there is no such stack.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from components.settings import stack_files
from components.settings.problems import SettingsError
from components.settings.settings import load_stack
from ops.cost import estimate, report

#: Prices know no project, and a stack's file need not name one yet.
_ANY_PROJECT = {"gcp:project": "any-project"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops cost", description="What a stack costs, before it is spent.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--stack", help="name of the stack; Pulumi.NAME.yaml is read")
    source.add_argument("--file", type=Path, help="the stack's file, such as one of examples/ladders")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown, for a comment on a pull request")
    options = parser.parse_args(arguments)
    try:
        stack = options.stack or options.file.stem
        named = stack_files.values(stack, file=options.file).get("gcp:project")
        settings = load_stack(stack, None if named else _ANY_PROJECT, file=options.file)
    except (stack_files.StackFileError, SettingsError) as error:
        print(error, file=sys.stderr)
        return 2
    render = report.as_json if options.json else report.markdown if options.markdown else report.text
    print(render(stack, settings.place.region, estimate(settings)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
