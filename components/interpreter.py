"""Set-up of the Python interpreter that runs the program, for speed and for interruptions.

Left out: anything that changes what the program does.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
from typing import TYPE_CHECKING, Any

import pulumi

#: A shell's exit status for a program that SIGINT has ended.
_INTERRUPTED = 130


def prepare() -> None:
    """Call it in the main thread before any component is made: with the components, most of the SDKs load."""
    _spare_collections()
    _spare_annotations()
    _leave_interruptions_to_the_engine()


def _leave_interruptions_to_the_engine() -> None:
    """Ends silently at SIGINT, where Python would print a traceback.

    Ctrl-C is meant for the update, and the engine, which passes the signal on, reports how that ended.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))


def _spare_collections() -> None:
    """Switches off the cyclic garbage collector, which finds almost nothing: the program needs all it loads until its end.

    While the provider SDKs' thousands of classes load, the collector runs again and again, and at its end the interpreter
    traverses them several times more. That took longer than everything that this program does itself. Memory does not
    suffer: reference counting frees everything without cycles, and a run is short.
    """
    gc.disable()
    # The interpreter's final collections, which cannot be switched off, skip frozen objects.
    atexit.register(gc.freeze)


class _Plain:
    """`Input[T]` as T, which is all that Pulumi itself reads out of it."""

    def __class_getitem__(cls, item: Any) -> Any:
        return item


def _spare_annotations() -> None:
    """Makes `pulumi.Input[...]` cheap for the provider SDKs, which write it tens of thousands of times as they load.

    Python evaluates each, and `Union[T, Awaitable[T], Output[T]]` took a quarter of all the processor time of a preview's program. Type
    checkers read the sources and do not see this.
    """
    if not TYPE_CHECKING:
        pulumi.Input = _Plain
