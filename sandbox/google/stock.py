"""Which node pools' machines Google has: what `python -m sandbox stock POOL out|hold|in` sets, and what a request then gets.

`out`: Google refuses each new machine of the pool in Compute Engine's words. `hold`: it neither refuses nor fills the request, as TPU
requests have been seen to be treated. Machines that are there stay in either. Kept in one file of the state folder, so that it can be
set before a cluster exists and outlives the daemon. Left out: stock by machine type and zone, of which several pools would share one;
a drill names the pools that it means.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from components.catalog.node_labels import SYSTEM_POOL_NAME
from components.settings.stack_files import PROJECT_NAME, configuration, known_stacks
from sandbox.host.paths import PROJECT_DIR, Paths
from sandbox.host.state_files import write_object

Supply = Literal["in", "out", "hold"]


class StockError(Exception):
    """No such pool; the message says which there are."""


class OutOfStockError(Exception):
    """Google has no machine for a request; the message is Compute Engine's."""

    def __init__(self, message: str, *, seconds: float) -> None:
        """`seconds`: how long, on Google's clock, it took to say so."""
        super().__init__(message)
        self.seconds = seconds


class Stock:
    """Reads the file at each question, since another process writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, pool: str) -> Supply:
        return self.short().get(pool, "in")

    def short(self) -> dict[str, Supply]:
        """The pools that are not in stock, by name."""
        try:
            return cast(dict[str, Supply], json.loads(self._path.read_text()))
        except FileNotFoundError:
            return {}

    def set(self, pool: str, supply: Supply) -> None:
        pools = {**self.short(), pool: supply}
        if supply == "in":
            del pools[pool]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_object(self._path, pools)


def refusal(node: str, *, project: str, zone: str) -> str:
    """Compute Engine's words, as terraform-provider-google#10121 and k8s-config-connector#228 quote them."""
    return (
        f"[GCE_STOCKOUT]: Instance '{node}' creation failed: The zone 'projects/{project}/zones/{zone}' does not have enough "
        "resources available to fulfill the request.  '(resource type:compute)'."
    )


def status_message(error: OutOfStockError, *, expected: int, running: int) -> str:
    """A node pool's `statusMessage` after a creation that Google gave up; form as in the issues above."""
    return (
        f"Google Compute Engine: Not all instances running in IGM after {error.seconds:g}s. Expected {expected}, running "
        f"{running}, transitioning {expected - running}. Current errors: {error}"
    )


def require_pool(paths: Paths, pool: str) -> None:
    """Raises `StockError` for a name that no accelerator pool has: a misspelt one would be in stock for ever."""
    known = _known_pools(paths)
    if pool not in known:
        raise StockError(f"{pool}: no accelerator pool of that name; pools are {', '.join(sorted(known))}")


def _known_pools(paths: Paths) -> set[str]:
    """Those of the clusters that are there and of every settings file, since a stock-out may come before the cluster."""
    known = {record.stem for record in paths.state.glob("clusters/*/pools/*.json")}
    files = [PROJECT_DIR / f"Pulumi.{stack}.yaml" for stack in known_stacks(PROJECT_DIR)]
    for file in (*files, paths.stack_config):
        if file.exists():
            known |= _names(configuration(file))
    return known - {SYSTEM_POOL_NAME}


def _names(config: Mapping[str, Any]) -> set[str]:
    pools: Iterable[Any] = config.get(f"{PROJECT_NAME}:acceleratorPools") or []
    return {str(pool["name"]) for pool in pools if isinstance(pool, Mapping) and "name" in pool}
