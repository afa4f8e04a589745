"""Set-up of the Python interpreter that runs the program, for speed and for interruptions.

Left out: anything that changes what the program does.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib.machinery
import os
import re
import signal
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pulumi

#: A shell's exit status for a program that SIGINT has ended.
_INTERRUPTED = 130


def prepare() -> None:
    """Call it in the main thread, before the provider SDKs are imported."""
    _spare_collections()
    _spare_annotations()
    sys.meta_path.insert(0, _OnDemandFinder())
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


#: The SDKs' packages of resources, each of which imports all of its modules.
_PACKAGES = re.compile(r"pulumi_(gcp|kubernetes)\..+|pulumi_docker")
_IMPORT_ALL = re.compile(r"^from \.(\w+) import \*$", re.MULTILINE)


class _OnDemandFinder:
    """Finds the SDKs' packages, and has `_OnDemandLoader` load them."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        if not _PACKAGES.fullmatch(name):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.submodule_search_locations is not None and spec.origin is not None:
            spec.loader = _OnDemandLoader(name, spec.origin)
        return spec


class _OnDemandLoader(importlib.machinery.SourceFileLoader):
    """Loads a package without its modules; each of them is loaded when one of its names is asked for.

    This program needs 82 of the 268 modules in the packages that it uses; the rest took a sixth of its processor time.
    """

    def exec_module(self, module: ModuleType) -> None:
        source = self.get_data(self.path).decode()
        module.__dict__["__getattr__"] = functools.partial(_load_name, module, _IMPORT_ALL.findall(source))
        exec(compile(_IMPORT_ALL.sub("", source), self.path, "exec"), module.__dict__)  # noqa: S102 - the SDK's own source


def _load_name(package: ModuleType, modules: list[str], name: str) -> Any:
    """Raises `AttributeError`. `Cluster` is in cluster.py, `get_project_output` in get_project.py; for what is elsewhere all are loaded."""
    # `outputs` is a module of each package, which Python looks for among the names first.
    if not name.startswith("_") and name != "outputs":
        plain = _plain(name).removeprefix("awaitable")
        likely = max((each for each in modules if plain.startswith(_plain(each))), key=len, default=None)
        shared = [each for each in modules if each.startswith("_")]
        for each in [*([likely] if likely else []), *shared, *modules]:
            found = importlib.import_module(f"{package.__name__}.{each}")
            # Over the module itself, of which a function may have the name.
            package.__dict__.update({exported: getattr(found, exported) for exported in getattr(found, "__all__", ())})
            if name in package.__dict__:
                return package.__dict__[name]
    raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
