"""One command line for a package whose commands are packages of their own, each with a `main`. Left out: their arguments."""

import sys
from collections.abc import Mapping
from importlib import import_module


def dispatch(package: str, commands: Mapping[str, str], arguments: list[str]) -> int:
    """Runs `PACKAGE.COMMAND.__main__.main`; returns its exit status, or 2 for a command that is not in `commands`."""
    if not arguments or arguments[0] not in commands:
        wants_help = arguments[:1] in (["-h"], ["--help"])
        width = max(map(len, commands))
        lines = [f"  {name:<{width}}  {purpose}" for name, purpose in commands.items()]
        output = sys.stdout if wants_help else sys.stderr
        print(f"usage: python -m {package} COMMAND [ARGUMENT ...]", *lines, sep="\n", file=output)
        return 0 if wants_help else 2
    try:
        # One command's libraries are none of another's business.
        status: int = import_module(f"{package}.{arguments[0]}.__main__").main(arguments[1:])
    except KeyboardInterrupt:
        return 130
    return status
