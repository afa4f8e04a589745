"""What a command is to the command line, and the kinds of values that commands take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

from sandbox.host.paths import Paths

#: What adds its arguments to a parser, and what runs it and returns the exit status.
Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[Paths, argparse.Namespace], int]]


def no_arguments(_: argparse.ArgumentParser) -> None:
    """For a command that takes none."""


def share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no value: give one above 0 and up to 1, such as 0.05")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of requests: give 1 or more")
    return value


def port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{value} is not a value: give one from 1 to 65535")
    return value


def seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of value: give one from 0 to 3600")
    return value


def rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a value: give requests a second, above 0 and up to 100")
    return value


def tokens(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of lengths: give tokens such as 16,64")
    return tuple(map(int, text.split(",")))


def replicas(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is not a number of value: give 0 or more")
    return value
