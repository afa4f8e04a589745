"""What a stack costs an hour, known before it is made: idle, usual and at most, by pool and in total.

From the settings and `components.catalog.prices` alone, without any call. Idle is every pool at its minimum; usual is what `replicas` need,
the best pools first, and no pool below its minimum; at most is every pool at its maximum. Left out: what `NOT_COUNTED` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from components.catalog.node_labels import SYSTEM_POOL_NAME
from components.catalog.prices import CLUSTER_FEE, MIN_PROXIES, Price, forwarding_rule_price, node_price, proxy_price
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.sections import Settings

#: A month as Google's calculator counts it.
HOURS_A_MONTH = 730

NOT_COUNTED = (
    "boot disks",
    "network traffic, what load balancers and Cloud Armor bill by use, and NAT",
    "stored images",
    "logs and metrics",
    "taxes",
    "discounts and the free tier",
    "the nodes that a pool starts with above its minimum",
    "machines of a reservation while no node takes them, which cost as much",
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One part of the bill: a node pool, or something that is there once."""

    name: str
    what: str
    #: How many there are at least, usually and at most.
    idle: int
    usual: int
    maximum: int
    #: The price of one for an hour; None where it is not known.
    price: Price | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A stack's lines, the accelerator pools first, in their order of priority."""

    lines: tuple[Line, ...]

    @property
    def unpriced(self) -> tuple[Line, ...]:
        """Lines of which no sum knows anything."""
        return tuple(line for line in self.lines if line.price is None)

    @property
    def unverified(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.price is not None and not line.price.verified)

    @property
    def dates(self) -> tuple[date, ...]:
        """The dates of the prices' sources, the oldest first."""
        return tuple(sorted({line.price.source.date for line in self.lines if line.price is not None}))

    @property
    def idle(self) -> float:
        """USD an hour, as `usual` and `maximum` are."""
        return self._total(lambda line: line.idle)

    @property
    def usual(self) -> float:
        return self._total(lambda line: line.usual)

    @property
    def maximum(self) -> float:
        return self._total(lambda line: line.maximum)

    def _total(self, count: Callable[[Line], int]) -> float:
        return sum(count(line) * line.price.usd for line in self.lines if line.price is not None)


def estimate(settings: Settings) -> Estimate:
    """What the stack of these settings costs."""
    pools = settings.accelerators.pools
    usual = usual_nodes(settings.scaling.replicas, pools)
    system = settings.cluster.system_nodes_per_zone * settings.place.system_zones
    return Estimate(
        lines=(
            *(
                Line(
                    name=pool.name,
                    what=f"{pool.machine_type}, {pool.provisioning}",
                    idle=pool.min_nodes,
                    usual=nodes,
                    maximum=pool.max_nodes,
                    price=node_price(pool.machine_type, pool.provisioning, settings.place.region, pool.machine.count),
                )
                for pool, nodes in zip(pools, usual, strict=True)
            ),
            Line(
                name=SYSTEM_POOL_NAME,
                what=f"{settings.cluster.system_machine_type}, on-demand",
                idle=system,
                usual=system,
                maximum=system,
                price=node_price(settings.cluster.system_machine_type, "on-demand", settings.place.region, 0),
            ),
            Line(name="control plane", what="GKE's fee", idle=1, usual=1, maximum=1, price=CLUSTER_FEE),
            _load_balancer(settings),
        )
    )


def _load_balancer(settings: Settings) -> Line:
    """At its least: more traffic takes more proxies. A gateway's two forwarding rules cost what one does."""
    region, gateway = settings.place.region, settings.network.gateway
    if gateway is not None and gateway.internal:
        return Line(
            name="gateway",
            what="proxies, without traffic",
            idle=MIN_PROXIES,
            usual=MIN_PROXIES,
            maximum=MIN_PROXIES,
            price=proxy_price(region),
        )
    name, what = ("gateway", "forwarding rules") if gateway else ("load balancer", "forwarding rule")
    return Line(name=name, what=what, idle=1, usual=1, maximum=1, price=forwarding_rule_price(region))


def usual_nodes(replicas: int, pools: Sequence[AcceleratorPool]) -> tuple[int, ...]:
    """Nodes of each pool where `replicas`, one a node, are on the best ones that there may be."""
    nodes = []
    for pool in pools:
        here = min(replicas, pool.max_nodes)
        replicas -= here
        nodes.append(max(here, pool.min_nodes))
    return tuple(nodes)


def summary(settings: Settings) -> str:
    """One line for the preview: `Cost: about 4.22 USD an hour idle, ...`."""
    found = estimate(settings)
    text = (
        f"Cost: about {found.idle:.2f} USD an hour idle, {found.usual:.2f} with {settings.scaling.replicas} "
        f"replica{'s' if settings.scaling.replicas != 1 else ''}, {found.maximum:.2f} at most "
        f"(prices of {found.dates[0]}; `python -m ops cost` says more)"
    )
    if found.unpriced:
        text += f"; without {', '.join(line.name for line in found.unpriced)}, of which no price is known"
    return text
