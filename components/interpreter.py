"""What the Python that runs the program is told once, for the whole of its short life.

Left out: anything that changes what the program does; this is about how long it takes and how it ends.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal

#: A shell's for a program that SIGINT has ended.
_INTERRUPTED = 130


def prepare() -> None:
    """To be called first, in the main thread."""
    _spare_collections()
    _leave_interruptions_to_the_engine()


def _leave_interruptions_to_the_engine() -> None:
    """Ends at SIGINT without a word, where Python would print a traceback of wherever it was.

    Whoever presses Ctrl-C means the update, and the engine, which passes the signal on, says what has become of that.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))


def _spare_collections() -> None:
    """Ends the cyclic garbage collector's work, which finds next to nothing: what the program loads, it needs to the end.

    The provider SDKs' thousands of classes make the collector run again and again while they load, and the interpreter
    traverses them all several times more as it ends, which took longer than everything that this program does itself.
    Memory is no worse for it: reference counts free what the collector would not have to look for, and a run is short.
    """
    gc.disable()
    # Frozen objects are left out of the collections of the interpreter's end, which no switch turns off.
    atexit.register(gc.freeze)
