"""What a node costs an hour: one dated table of list prices in USD, by machine type, provisioning and region.

Google bills resources and not machines: TPU chips, GPUs, vCPUs and memory. The table has their prices, and a node's price
is the sum for its machine. A pair is (on-demand, Spot); preemptible machines cost the same as Spot ones
(https://docs.cloud.google.com/compute/docs/instances/preemptible). Google may change Spot prices once a day
(https://cloud.google.com/spot-vms/pricing), so the table has those of its sources' dates.

A region or machine that is not listed has no price (None): nothing is guessed, and flex-start has none at all, since its price list
(https://cloud.google.com/products/dws/pricing) could not be read. A reservation costs what nodes on demand do, whether they run or not.
Left out: discounts of any kind (committed and sustained use, negotiated), taxes, disks, networks, and future prices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from components.catalog.machines import MACHINE_TYPES, TAKEN_BACK, Provisioning


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where prices were read."""

    #: Date of the prices; for the catalogue without a date of its own, the day on which it was read.
    date: date
    where: str


#: A daily copy of Google's Cloud Billing catalogue (the API), generated on 20 August 2026.
BILLING_COPY = Source(date=date(2026, 8, 20), where="github.com/Cyclenerd/google-cloud-pricing-cost-calculator dac31281, pricing.yml")
#: An older state of the same, which has machines whose rows in the other sources mix prices of several ways to buy.
OLDER_COPY = Source(date=date(2025, 3, 6), where="github.com/Cyclenerd/google-cloud-pricing-cost-calculator 0166a59e, pricing.yml")
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


def _rates(source: Source, *rows: str) -> _Rates:
    """From `REGION ON_DEMAND SPOT, ...`."""
    parts = (row.split() for row in "".join(rows).split(","))
    return _Rates(source=source, by_region={region: (float(on_demand), float(spot)) for region, on_demand, spot in parts})


#: One accelerator with its share of the host, whose vCPUs, memory and local SSDs either are not billed separately (TPUs) or come with the
#: accelerator in a fixed proportion (a2, a3); of an L4 and a T4 the accelerator alone. Names as in `components.catalog.machines`.
_ACCELERATOR: Mapping[str, _Rates] = MappingProxyType(
    {
        "tpu-v6e-slice": _rates(
            SKYPILOT,
            "asia-northeast1 3.24 0.94352, asia-south1 3.24 2.27, asia-southeast1 2.97 0.36292, europe-west4 2.97 1.03748, "
            "us-central1 2.70 0.54421, us-east1 2.70 0.54421, us-east4 2.70 0.57766, us-east5 2.70 1.215, us-south1 2.70 1.35, "
            "us-west1 2.70 0.54421",
        ),
        "tpu-v5-lite-podslice": _rates(
            SKYPILOT,
            "asia-east1 1.38948 0.55579, asia-northeast1 1.54104 0.4244, asia-southeast1 1.56 0.78, europe-north1 1.32132 0.66066, "
            "europe-west1 1.32132 0.52853, europe-west3 1.416 0.38997, europe-west4 1.56 0.44498, "
            "northamerica-northeast1 1.32132 0.36389, us-central1 1.20 0.24493, us-east1 1.20 0.24493, us-east4 1.20 0.60, "
            "us-east5 1.20 0.60, us-south1 1.416 0.5664, us-west1 1.20 0.24493, us-west4 1.20 0.48",
        ),
        "tpu-v5p-slice": _rates(
            SKYPILOT,
            "europe-west1 4.45946 1.78378, europe-west4 4.2525 1.34849, us-central1 4.2 0.8357, us-east1 4.2 0.8357, us-east5 4.2 1.68, "
            "us-south1 4.779 1.31614",
        ),
        "tpu-v4-podslice": _rates(
            SKYPILOT, "us-central2 3.22 0.9215",
        ),
        "nvidia-l4": _rates(
            BILLING_COPY,
            "asia-east1 0.6484706 0.3718, asia-northeast1 0.7192037 0.4315, asia-northeast3 0.7192037 0.2467, "
            "asia-south1 0.5829757 0.2828, asia-southeast1 0.6909216 0.4146, europe-west1 0.6166603 0.3435, europe-west2 0.637654 0.3826, "
            "europe-west3 0.6600278 0.396, europe-west4 0.5886303 0.3532, europe-west6 0.7834403 0.4701, "
            "northamerica-northeast1 0.6166603 0.37, northamerica-northeast2 0.6166603 0.37, us-central1 0.5600402 0.3359, "
            "us-east1 0.5600402 0.3359, us-east4 0.5582065 0.2707, us-west1 0.5600402 0.3359, us-west4 0.6307733 0.3785",
        ),
        "nvidia-tesla-t4": _rates(
            SKYPILOT,
            "asia-east1 0.35 0.1383, asia-northeast1 0.37 0.1311, asia-northeast3 0.37 0.1539, asia-south1 0.41 0.1701, "
            "asia-southeast1 0.37 0.1645, europe-west1 0.35 0.14, europe-west2 0.399 0.1181, europe-west3 0.41 0.164, "
            "europe-west4 0.3675 0.175, us-central1 0.35 0.175, us-east1 0.35 0.175, us-east4 0.37 0.1644, us-west1 0.35 0.175, "
            "us-west4 0.37 0.1258",
        ),
        "nvidia-tesla-a100": _rates(
            OLDER_COPY,
            "asia-northeast1 4.049591 1.271375, asia-northeast3 4.049591 1.29417, asia-southeast1 4.013758 1.60545, "
            "europe-west4 3.747972 1.44587, us-central1 3.673385 1.293355, us-east1 3.673385 1.293355, us-west1 3.673385 1.293355, "
            "us-west3 4.325069 1.726555, us-west4 3.934355 1.57366",
        ),
        "nvidia-a100-80gb": _rates(
            OLDER_COPY,
            "asia-southeast1 6.247685 2.512544, europe-west4 5.580918 1.811055, us-central1 5.068798 2.027468, "
            "us-east4 5.707732 2.296584, us-east5 5.564915 1.759698",
        ),
        "nvidia-h100-80gb": _rates(
            OLDER_COPY,
            "asia-southeast1 14.284787 4.037726, europe-west1 12.171231 4.868509, europe-west4 14.06756 3.969901, "
            "us-central1 11.06125 4.424469, us-east4 11.06947 4.45488, us-east5 12.4479 4.979117, us-west1 11.06125 4.424469, "
            "us-west4 12.456119 4.982404",
        ),
        "nvidia-h100-mega-80gb": _rates(
            OLDER_COPY,
            "asia-northeast1 14.909546 4.833299, asia-southeast1 14.996831 4.237126, europe-west1 12.774331 5.109709, "
            "europe-west4 14.779604 5.783001, us-east4 11.617199 4.67398, us-east5 11.75833 4.703317, us-west4 13.07303 5.229204",
        ),
    }
)  # fmt: skip

#: Machines whose accelerators share less of a host than others' of their kind do.
_WHOLE: Mapping[str, _Rates] = MappingProxyType(
    {
        "a2-megagpu-16g": _rates(
            OLDER_COPY, "asia-southeast1 60.476223 24.1896, europe-west4 56.62656 21.99824, us-central1 55.739504 19.48024"
        )
    }
)

#: The rest of a machine by its family: 4 vCPU with 16 GB of a G2 (from the prices of g2-standard-12 and -16, which differ by one such
#: unit), and 1 vCPU with 3.75 GB of an N1 (from those of n1-340-48-tpu and n1-356-96-tpu).
_HOST: Mapping[str, tuple[int, _Rates]] = MappingProxyType(
    {
        "g2": (
            4,
            _rates(
                BILLING_COPY,
                "asia-east1 0.1699705 0.097448, asia-northeast1 0.1885103 0.113096, asia-northeast3 0.1885103 0.064664, "
                "asia-south1 0.1528036 0.074128, asia-southeast1 0.1810973 0.108672, europe-west1 0.1616327 0.090056, "
                "europe-west2 0.1671353 0.10028, europe-west3 0.1729997 0.1038, europe-west4 0.1542858 0.092576, "
                "europe-west6 0.1923078 0.115376, northamerica-northeast1 0.1616327 0.096984, northamerica-northeast2 0.1616327 0.096984, "
                "us-central1 0.146792 0.088056, us-east1 0.146792 0.088056, us-east4 0.1463113 0.07096, us-west1 0.146792 0.088056, "
                "us-west4 0.1653318 0.099208",
            ),
        ),
        "n1": (
            1,
            _rates(
                SKYPILOT,
                "asia-east1 0.054999 0.008908, asia-northeast1 0.060939 0.016654, asia-northeast3 0.060939 0.015456, "
                "asia-south1 0.057050 0.010365, asia-southeast1 0.058596 0.009680, europe-west1 0.052252 0.015627, "
                "europe-west2 0.061197 0.012733, europe-west3 0.061197 0.015402, europe-west4 0.052292 0.020917, "
                "us-central1 0.047500 0.013057, us-east1 0.047500 0.013057, us-east4 0.053496 0.011299, us-west1 0.047500 0.013057, "
                "us-west4 0.053496 0.016270",
            ),
        ),
    }
)  # fmt: skip

#: e2-standard-2; its larger siblings cost as much more as they are larger.
_E2_STANDARD_2 = _rates(
    BILLING_COPY,
    "asia-east1 0.0775919 0.038436, asia-northeast1 0.0859657 0.051584, asia-northeast3 0.0859657 0.035612, "
    "asia-south1 0.0804844 0.048288, asia-southeast1 0.0826661 0.045196, europe-north1 0.0737776 0.018588, "
    "europe-west1 0.0737155 0.041332, europe-west2 0.0863356 0.028668, europe-west3 0.0863356 0.0518, europe-west4 0.073772 0.036928, "
    "europe-west6 0.0877827 0.034252, northamerica-northeast1 0.073772 0.022976, northamerica-northeast2 0.073772 0.015488, "
    "us-central1 0.0670114 0.040212, us-east1 0.0670114 0.040212, us-east4 0.0754708 0.04332, us-east5 0.0670114 0.02672, "
    "us-south1 0.0790735 0.02668, us-west1 0.0670114 0.040212, us-west4 0.0754708 0.00952",
)  # fmt: skip

#: A cluster's control plane, whatever its size; the free tier does not cover regional clusters. A cluster of the channel
#: EXTENDED whose version is past its standard support costs more.
CLUSTER_FEE = Price(usd=0.10, source=GKE_PAGE)

#: Regional internal load balancers are billed by proxy, at least three of them, and not by forwarding rule; every Application Load
#: Balancer by the GiB besides (0.008 in the US), which is not counted: https://cloud.google.com/vpc/network-pricing
MIN_PROXIES = 3
_PROXY = 0.025

#: The first five forwarding rules of a project together.
_FORWARDING_RULES = 0.025


def node_price(machine_type: str, provisioning: Provisioning, region: str, count: int | None = None) -> Price | None:
    """What one node of a pool costs an hour, including its accelerators; None if the table has no price for it.

    `count`: of attached GPUs, where the machine type leaves a choice, and has no price while that is not known.
    """
    machine = MACHINE_TYPES.get(machine_type)
    family = machine_type.partition("-")[0]
    if machine is None:
        sibling = re.fullmatch(r"e2-standard-(\d+)", machine_type)
        return _sum([(int(sibling[1]) / 2, _E2_STANDARD_2)], provisioning, region) if sibling else None
    if machine_type in _WHOLE:
        return _sum([(1, _WHOLE[machine_type])], provisioning, region)
    if machine.accelerator not in _ACCELERATOR:
        return None
    count = count if machine.counts else machine.count
    if count is None:
        return None
    parts: list[tuple[float, _Rates]] = [(count, _ACCELERATOR[machine.accelerator])]
    if family in _HOST:
        vcpus, rates = _HOST[family]
        parts.append((machine.vcpus / vcpus, rates))
    return _sum(parts, provisioning, region)


def proxy_price(region: str) -> Price:
    """One proxy of a regional internal Application Load Balancer; verified as forwarding rules are."""
    return Price(usd=_PROXY, source=LOAD_BALANCING_PAGE, verified=region.startswith("us-"))


def forwarding_rule_price(region: str) -> Price:
    """The load balancer's price. The archive lacks the table by region on Google's page, so it is verified for the US only."""
    return Price(usd=_FORWARDING_RULES, source=LOAD_BALANCING_PAGE, verified=region.startswith("us-"))


def _sum(parts: list[tuple[float, _Rates]], provisioning: Provisioning, region: str) -> Price | None:
    if provisioning == "flex-start":
        return None
    pairs = [rates.by_region.get(region) for _, rates in parts]
    usd = 0.0
    for (count, _), pair in zip(parts, pairs, strict=True):
        if pair is None:
            return None
        usd += count * (pair[1] if provisioning in TAKEN_BACK else pair[0])
    return Price(usd=round(usd, 6), source=parts[0][1].source)
