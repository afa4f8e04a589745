"""How a command is described to the command line, and the types of values that commands take."""

import argparse
import re
from collections.abc import Callable

from ops.arguments import number
from sandbox.host.paths import Paths

#: A command: a function that adds its arguments to a parser, and one that runs it and returns the exit status.
Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[Paths, argparse.Namespace], int]]


def no_arguments(_: argparse.ArgumentParser) -> None:
    """Adds nothing, for a command without arguments."""


share = number(float, lambda value: 0 < value <= 1, "a share", "one above 0 and up to 1, such as 0.05")
count = number(int, lambda value: value >= 1, "a number of requests", "1 or more")
port = number(int, lambda value: 1 <= value <= 65535, "a port", "1 to 65535")
seconds = number(float, lambda value: 0 <= value <= 3600, "a time in seconds", "0 to 3600")
rate = number(float, lambda value: 0 < value <= 100, "a rate", "requests a second, above 0 and up to 100")
replicas = number(int, lambda value: value >= 0, "a number of replicas", "0 or more")


def tokens(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of lengths: give tokens such as 16,64")
    return tuple(map(int, text.split(",")))
