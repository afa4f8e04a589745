"""What a node costs an hour: one dated table of list prices in USD, by machine type, provisioning and region.

Google bills resources and not machines: TPU chips, GPUs, vCPUs and memory. The table has their prices, and a node's price
is the sum for its machine. A pair is (on-demand, Spot); preemptible machines cost the same as Spot ones
(https://docs.cloud.google.com/compute/docs/instances/preemptible). Google may change Spot prices once a day
(https://cloud.google.com/spot-vms/pricing), so the table has those of its sources' dates.

A region or machine that is not listed has no price (None): nothing is guessed. Left out: discounts of any kind (committed and
sustained use, negotiated), taxes, disks, networks, and future prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from components.catalog.machines import MACHINE_TYPES, Provisioning


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where prices were read."""

    #: Date of the prices; for the catalogue without a date of its own, the day on which it was read.
    date: date
    where: str


#: A daily copy of Google's Cloud Billing catalogue (the API), generated on 20 August 2026.
BILLING_COPY = Source(date=date(2026, 8, 20), where="github.com/Cyclenerd/google-cloud-pricing-cost-calculator dac31281, pricing.yml")
#: SkyPilot's catalogue, made from the same API; it has no date, so this is the day on which it was read.
SKYPILOT = Source(date=date(2026, 11, 23), where="github.com/skypilot-org/skypilot-catalog 006059e0, v8/gcp/vms.csv")
#: Google's own pages, as an archive had them on that day.
GKE_PAGE = Source(date=date(2026, 11, 23), where="cloud.google.com/kubernetes-engine/pricing")
LOAD_BALANCING_PAGE = Source(date=date(2026, 11, 23), where="cloud.google.com/load-balancing/pricing")


@dataclass(frozen=True, kw_only=True)
class Price:
    """A list price an hour."""

    usd: float
    source: Source
    #: False if the source does not give it for exactly this region.
    verified: bool = True


#: (on-demand, Spot) an hour.
_Pair = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class _Rates:
    source: Source
    by_region: Mapping[str, _Pair]


#: One TPU chip with its share of the host, which is not billed separately (the catalogue adds nothing for it either); generation
#: as in `components.catalog.machines`.
_TPU_CHIP: Mapping[str, _Rates] = MappingProxyType(
    {
        "v6e": _Rates(
            source=SKYPILOT,
            by_region={
                "asia-northeast1": (3.24, 0.94352),
                "asia-south1": (3.24, 2.27),
                "asia-southeast1": (2.97, 0.36292),
                "europe-west4": (2.97, 1.03748),
                "us-central1": (2.70, 0.54421),
                "us-east1": (2.70, 0.54421),
                "us-east4": (2.70, 0.57766),
                "us-east5": (2.70, 1.215),
                "us-south1": (2.70, 1.35),
                "us-west1": (2.70, 0.54421),
            },
        ),
        "v5litepod": _Rates(
            source=SKYPILOT,
            by_region={
                "asia-east1": (1.38948, 0.55579),
                "asia-northeast1": (1.54104, 0.4244),
                "asia-southeast1": (1.56, 0.78),
                "europe-north1": (1.32132, 0.66066),
                "europe-west1": (1.32132, 0.52853),
                "europe-west3": (1.416, 0.38997),
                "europe-west4": (1.56, 0.44498),
                "northamerica-northeast1": (1.32132, 0.36389),
                "us-central1": (1.20, 0.24493),
                "us-east1": (1.20, 0.24493),
                "us-east4": (1.20, 0.60),
                "us-east5": (1.20, 0.60),
                "us-south1": (1.416, 0.5664),
                "us-west1": (1.20, 0.24493),
                "us-west4": (1.20, 0.48),
            },
        ),
    }
)

#: One NVIDIA L4, and 4 vCPU with 16 GB of a G2 machine: from the prices of g2-standard-12 and -16, which differ by one such
#: unit. The regions that have L4s.
_L4 = _Rates(
    source=BILLING_COPY,
    by_region={
        "asia-east1": (0.6484706, 0.3718),
        "asia-northeast1": (0.7192037, 0.4315),
        "asia-northeast3": (0.7192037, 0.2467),
        "asia-south1": (0.5829757, 0.2828),
        "asia-southeast1": (0.6909216, 0.4146),
        "europe-west1": (0.6166603, 0.3435),
        "europe-west2": (0.637654, 0.3826),
        "europe-west3": (0.6600278, 0.396),
        "europe-west4": (0.5886303, 0.3532),
        "europe-west6": (0.7834403, 0.4701),
        "northamerica-northeast1": (0.6166603, 0.37),
        "northamerica-northeast2": (0.6166603, 0.37),
        "us-central1": (0.5600402, 0.3359),
        "us-east1": (0.5600402, 0.3359),
        "us-east4": (0.5582065, 0.2707),
        "us-west1": (0.5600402, 0.3359),
        "us-west4": (0.6307733, 0.3785),
    },
)
_G2_UNIT = _Rates(
    source=BILLING_COPY,
    by_region={
        "asia-east1": (0.1699705, 0.097448),
        "asia-northeast1": (0.1885103, 0.113096),
        "asia-northeast3": (0.1885103, 0.064664),
        "asia-south1": (0.1528036, 0.074128),
        "asia-southeast1": (0.1810973, 0.108672),
        "europe-west1": (0.1616327, 0.090056),
        "europe-west2": (0.1671353, 0.10028),
        "europe-west3": (0.1729997, 0.1038),
        "europe-west4": (0.1542858, 0.092576),
        "europe-west6": (0.1923078, 0.115376),
        "northamerica-northeast1": (0.1616327, 0.096984),
        "northamerica-northeast2": (0.1616327, 0.096984),
        "us-central1": (0.146792, 0.088056),
        "us-east1": (0.146792, 0.088056),
        "us-east4": (0.1463113, 0.07096),
        "us-west1": (0.146792, 0.088056),
        "us-west4": (0.1653318, 0.099208),
    },
)

#: e2-standard-2; its larger siblings cost as much more as they are larger.
_E2_STANDARD_2 = _Rates(
    source=BILLING_COPY,
    by_region={
        "asia-east1": (0.0775919, 0.038436),
        "asia-northeast1": (0.0859657, 0.051584),
        "asia-northeast3": (0.0859657, 0.035612),
        "asia-south1": (0.0804844, 0.048288),
        "asia-southeast1": (0.0826661, 0.045196),
        "europe-north1": (0.0737776, 0.018588),
        "europe-west1": (0.0737155, 0.041332),
        "europe-west2": (0.0863356, 0.028668),
        "europe-west3": (0.0863356, 0.0518),
        "europe-west4": (0.073772, 0.036928),
        "europe-west6": (0.0877827, 0.034252),
        "northamerica-northeast1": (0.073772, 0.022976),
        "northamerica-northeast2": (0.073772, 0.015488),
        "us-central1": (0.0670114, 0.040212),
        "us-east1": (0.0670114, 0.040212),
        "us-east4": (0.0754708, 0.04332),
        "us-east5": (0.0670114, 0.02672),
        "us-south1": (0.0790735, 0.02668),
        "us-west1": (0.0670114, 0.040212),
        "us-west4": (0.0754708, 0.00952),
    },
)

#: A cluster's control plane, whatever its size; the free tier does not cover regional clusters. A cluster of the channel
#: EXTENDED whose version is past its standard support costs more.
CLUSTER_FEE = Price(usd=0.10, source=GKE_PAGE)

#: Regional internal load balancers are billed by proxy, at least three of them, and not by forwarding rule; every Application Load
#: Balancer by the GiB besides (0.008 in the US), which is not counted: https://cloud.google.com/vpc/network-pricing
MIN_PROXIES = 3
_PROXY = 0.025

#: The first five forwarding rules of a project together.
_FORWARDING_RULES = 0.025


def node_price(machine_type: str, provisioning: Provisioning, region: str) -> Price | None:
    """What one node of a pool costs an hour, including its accelerators; None if the table has no price for it."""
    machine = MACHINE_TYPES.get(machine_type)
    if machine is None:
        sibling = re.fullmatch(r"e2-standard-(\d+)", machine_type)
        return _sum([(int(sibling[1]) / 2, _E2_STANDARD_2)], provisioning, region) if sibling else None
    if machine.kind == "tpu":
        chip = _TPU_CHIP.get(machine.generation)
        return _sum([(machine.count, chip)], provisioning, region) if chip else None
    return _sum([(machine.count, _L4), (machine.vcpus / 4, _G2_UNIT)], provisioning, region)


def proxy_price(region: str) -> Price:
    """One proxy of a regional internal Application Load Balancer; verified as forwarding rules are."""
    return Price(usd=_PROXY, source=LOAD_BALANCING_PAGE, verified=region.startswith("us-"))


def forwarding_rule_price(region: str) -> Price:
    """The load balancer's price. The archive lacks the table by region on Google's page, so it is verified for the US only."""
    return Price(usd=_FORWARDING_RULES, source=LOAD_BALANCING_PAGE, verified=region.startswith("us-"))


def _sum(parts: list[tuple[float, _Rates]], provisioning: Provisioning, region: str) -> Price | None:
    pairs = [rates.by_region.get(region) for _, rates in parts]
    usd = 0.0
    for (count, _), pair in zip(parts, pairs, strict=True):
        if pair is None:
            return None
        usd += count * (pair[0] if provisioning == "on-demand" else pair[1])
    return Price(usd=round(usd, 6), source=parts[0][1].source)
