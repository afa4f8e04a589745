"""One accelerator pool as settings describe it, and what can be wrong with one or with the list of them.

The list is in order of priority, and everything about fallback derives from it. Left out: multi-host TPU slices, on which vLLM does not
run in GKE (its TPU serving is single-host), and queued provisioning, whose requests never give up and so never fall back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from components.catalog.machines import ATTACHED_ELSEWHERE, MACHINE_TYPES, TAKEN_BACK, Kind, MachineType, Provisioning
from components.catalog.node_labels import SYSTEM_POOL_NAME
from components.settings.machine_type import AcceleratorMachine
from components.settings.problems import Problem
from components.settings.reader import Derived, Notes, Reader, ValueType, declared, setting
from components.settings.value_types import Boolean, Choice, Text, Whole

#: GKE's installation of NVIDIA's driver.
GPU_DRIVER_VERSIONS = ("DEFAULT", "LATEST", "INSTALLATION_DISABLED")

#: GKE's own limit on the number of rules of a ComputeClass is higher; past ten a list of fallbacks is a mistake.
MAX_POOLS = 10

#: GKE's limits on the names of clusters and node pools.
NAME_PATTERN = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MAX_NAME_LENGTH = 40

REGION_PATTERN = r"[a-z]+-[a-z]+[0-9]+"
#: Zones for AI workloads have a part more: https://docs.cloud.google.com/compute/docs/regions-zones/ai-zones
_ZONE_END = r"-(?:ai[0-9]+)?[a-z]"
ZONE_PATTERN = REGION_PATTERN + _ZONE_END

#: GB. A base image has about 10 GB, and as much again unpacked; beside them are the system's own partitions and the weights.
MIN_DISK_GB = 50
_MAX_DISK_GB = 65536

#: Nodes a zone; GKE's limit on the size of a node pool.
_MAX_NODES = 1000

#: How GKE names a disk image with preloaded container images: of the cluster's project, or of the one that it names.
#: https://docs.cloud.google.com/kubernetes-engine/docs/how-to/data-container-image-preloading
_DISK_IMAGE = re.compile(r"(projects/([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]/)?global/images/[a-z]([-a-z0-9]{0,61}[a-z0-9])?")

#: The driver of a GPU pool that names none.
_DRIVER = "LATEST"

#: A node of flex-start lives for ten minutes to seven days (pkg/autoprovisioning/injection.go of GoogleCloudPlatform/cluster-autoscaler).
_MAX_RUN_DAYS = 7

#: As GKE writes a reservation (gceclient/reservation_ref.go of the same): of the own project or a shared one, or a block of the own
#: project's. "Shared extended reservations are not supported by GKE": modules/compute/gke-node-pool of GoogleCloudPlatform/cluster-toolkit.
_RESERVATION_NAME = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
_RESERVATION = re.compile(
    rf"(projects/([a-z0-9.-]+:)?[a-z][a-z0-9-]{{4,28}}[a-z0-9]/reservations/)?{_RESERVATION_NAME}"
    rf"|{_RESERVATION_NAME}/reservationBlocks/[a-z0-9-]+(/reservationSubBlocks/[a-z0-9-]+)?"
)


def is_zone(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(ZONE_PATTERN, text) is not None


def zone_problem(zone: Any, region: str) -> tuple[str, str] | None:
    """Reason and fix where it is not a zone of the region; of something that is not a region, zones have any."""
    known = re.fullmatch(REGION_PATTERN, region) is not None
    if is_zone(zone) and (not known or zone.rpartition("-")[0] == region):
        return None
    return f"is not a zone of region {region}" if known else "is not a zone", f"use one such as {region if known else 'REGION'}-b"


def _name_rule(name: str, notes: Notes) -> None:
    if name == SYSTEM_POOL_NAME:
        notes.refuse("is the name of the cluster's own node pool", "choose another name")
    if len(name) > MAX_NAME_LENGTH:
        notes.refuse(f"has {len(name)} characters, and GKE allows {MAX_NAME_LENGTH}", "shorten it")


_NAME = Text(
    NAME_PATTERN, "a valid node pool name", "use lower-case letters, digits and hyphens, a letter first and no hyphen last", _name_rule
)
_NODES = Whole(0, _MAX_NODES, "a number of nodes", "a whole number", texts=False)


@dataclass(frozen=True)
class _OfMachine(ValueType):
    """What the pool's machine decides; `rule` notes what it has against a value."""

    rule: Callable[[Any, MachineType, Notes], None]
    name = "text"

    def read(self, value: Any, notes: Notes) -> Any:
        machine = _machine(notes.known)
        if value is not None and machine is not None:
            self.rule(value, machine, notes)
        return value


def _machine(known: Mapping[str, Any]) -> MachineType | None:
    """None for a machine type that is not known, which is a problem of its own."""
    return MACHINE_TYPES.get(known["machineType"])


def _accelerator_rule(value: Any, machine: MachineType, notes: Notes) -> None:
    if value != machine.accelerator:
        fix = f"use {machine.accelerator}, remove the key, or choose another machineType"
        old = "is Google's, and too old for CUDA 13, on which vLLM's default image is built"
        notes.refuse(old if machine.counts and value in ATTACHED_ELSEWHERE else f"is not what a {notes.known['machineType']} carries", fix)


def _count_rule(value: Any, machine: MachineType, notes: Notes) -> None:
    counts = machine.counts or (machine.count,)
    if isinstance(value, bool) or value not in counts:
        fix = f"use {' or '.join(map(str, counts))}, remove the key, or choose another machineType"
        notes.refuse(f"is not a number of {machine.accelerator} that a {notes.known['machineType']} has", fix)


def _topology_rule(value: Any, machine: MachineType, notes: Notes) -> None:
    machine_type = notes.known["machineType"]
    if machine.kind == "gpu":
        notes.refuse(f"is set for {machine_type}, which has no TPU", "remove it")
    elif value != machine.topology:
        reason = f"is not the topology of one {machine_type}, and vLLM serves on one host only"
        notes.refuse(reason, f"use {machine.topology}, or remove it")


def _driver_rule(value: Any, machine: MachineType, notes: Notes) -> None:
    if machine.kind == "tpu":
        notes.refuse("is set for a machine without GPU", "remove it")
    else:
        Choice(GPU_DRIVER_VERSIONS).read(value, notes)


def _by_machine(shown: str, fact: Callable[[MachineType], str | int | None]) -> Derived:
    """A default that the pool's machine decides."""

    def of(known: Mapping[str, Any]) -> str | int | None:
        machine = _machine(known)
        return None if machine is None else fact(machine)

    return Derived(shown, of)


class _Zones(ValueType):
    """Zones of the region, each once."""

    name = "list"

    def read(self, value: Any, notes: Notes) -> tuple[str, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or not value:
            notes.refuse("is not a list of zones", f"give a list such as [{notes.known['zone'] or 'ZONE'}], or remove it")
            return ()
        for index, each in enumerate(value):
            if (problem := zone_problem(each, notes.known["region"])) is not None:
                notes.refuse(*problem, value=each)
            elif each in value[:index]:
                notes.refuse("is listed twice, and its nodes would be counted twice", "remove one of the two", value=each)
        return tuple(map(str, value))


@dataclass(frozen=True, kw_only=True)
class AcceleratorPool:
    """Node counts are for each of the pool's zones, as GKE's own are."""

    name: str = setting(_NAME, description="Name of the node pool, at most 40 characters.")
    machine_type: str = setting(
        AcceleratorMachine(), description="A machine type with an accelerator, from `components/catalog/machines.py`."
    )
    max_node_count: int = setting(
        Whole(
            1,
            _MAX_NODES,
            "a number of nodes",
            "a whole number",
            "leaves the pool without room; `enabled: false` is what takes it out of service",
            texts=False,
        ),
        description="Most nodes, in each zone unless `nodeCounts` says otherwise.",
    )
    min_node_count: int = setting(
        _NODES,
        default=0,
        description="Fewest nodes, counted as `maxNodeCount`; they are billed while idle. On another pool than the first, replicas that "
        "land there stay ([why](ladder.md)).",
    )
    node_counts: str = setting(
        Choice(("per-zone", "total")),
        default="per-zone",
        description="Whether `minNodeCount` and `maxNodeCount` are for each zone, or for all zones together (`total`).",
    )
    initial_node_count: int = setting(
        _NODES,
        default=Derived("`minNodeCount`; 0 with `total`", lambda known: known["minNodeCount"] * (known["nodeCounts"] != "total")),
        description="Nodes in each zone at creation; the autoscaler decides later, so a change has no effect.",
    )
    provisioning: Provisioning = setting(
        Choice(get_args(Provisioning)),
        default="on-demand",
        description="How nodes are bought ([capacity](ladder.md#capacity)); `preemptible` is the older form of `spot`. A change replaces "
        "the pool, whose replicas end at once.",
    )
    #: Of `flex-start`; None for any other.
    max_run_days: int | None = setting(
        Whole(1, _MAX_RUN_DAYS, "a number of days", "whole days", texts=False),
        default=Derived(
            f"{_MAX_RUN_DAYS} with `flex-start`", lambda known: _MAX_RUN_DAYS if known["provisioning"] == "flex-start" else None
        ),
        description="Days after which Google takes a node of `flex-start` away. A change replaces the pool.",
    )
    #: Of `reservation`; None for any other.
    reservation: str | None = setting(
        Text(
            _RESERVATION,
            "a reservation as GKE names one",
            "give NAME, projects/PROJECT/reservations/NAME for one that another project shares, or NAME/reservationBlocks/BLOCK of this "
            "project",
        ),
        default=Derived("none", lambda known: None),
        description="The reservation whose machines `provisioning: reservation` takes: `NAME`, `projects/PROJECT/reservations/NAME`, or "
        "`NAME/reservationBlocks/BLOCK` (`/reservationSubBlocks/SUB`). A change replaces the pool.",
    )
    location_policy: str = setting(
        Choice(("BALANCED", "ANY")),
        default=Derived("`BALANCED` on demand, else `ANY`", lambda known: "BALANCED" if known["provisioning"] == "on-demand" else "ANY"),
        description="How GKE chooses among `zones`: as many nodes in each (`BALANCED`), or where capacity is (`ANY`).",
    )
    accelerator: str = setting(
        _OfMachine(_accelerator_rule),
        default=_by_machine("the machine's", lambda machine: machine.accelerator),
        description="Checked against what the machine carries.",
    )
    accelerator_count: int = setting(
        _OfMachine(_count_rule),
        default=_by_machine("the machine's", lambda machine: machine.count),
        description="How many of them; only an N1 machine leaves a choice (1, 2 or 4 GPUs). A change replaces the pool.",
    )
    #: None for a machine with TPUs.
    gpu_driver_version: str | None = setting(
        _OfMachine(_driver_rule),
        default=_by_machine(f"`{_DRIVER}`", lambda machine: _DRIVER if machine.kind == "gpu" else None),
        description=f"{', '.join(f'`{each}`' for each in GPU_DRIVER_VERSIONS)}; GPUs only. A change replaces the pool, whose replicas end "
        "at once.",
    )
    #: None for a machine with GPUs.
    tpu_topology: str | None = setting(
        _OfMachine(_topology_rule),
        default=_by_machine("the machine's", lambda machine: machine.topology),
        description="Checked against the machine; TPUs on one host only.",
    )
    zones: tuple[str, ...] = setting(
        _Zones(), default=Derived("`[zone]`", lambda known: (known["zone"],)), description="Zones of the region."
    )
    #: GB of the boot disk; None leaves GKE's default.
    disk_size_gb: int | None = setting(
        Whole(
            MIN_DISK_GB,
            _MAX_DISK_GB,
            "a disk size",
            "whole GB",
            "leaves no room for the images, of about 10 GB each and as much again unpacked",
            texts=False,
        ),
        default=Derived("GKE's", lambda known: None),
        description="Size of the boot disk in GB.",
    )
    #: False takes the pool out of service and keeps it: no rule of the class names it, no replica runs on it, and its nodes go.
    enabled: bool = setting(
        Boolean(texts=False),
        default=True,
        description="`false` takes the pool out of service and keeps it: its replicas move, its nodes go, and nothing is replaced or "
        "deleted.",
    )
    #: Disk image with preloaded container images, which every node gets as a second disk.
    secondary_boot_disk_image: str | None = setting(
        Text(
            _DISK_IMAGE,
            "a disk image name that GKE takes",
            "give global/images/IMAGE, or projects/PROJECT/global/images/IMAGE for one of another project",
        ),
        default=Derived("none", lambda known: None),
        description="Disk image with preloaded container images, as `global/images/IMAGE` or `projects/PROJECT/global/images/IMAGE`; a "
        "change replaces the pool.",
    )

    @property
    def machine(self) -> MachineType:
        return replace(MACHINE_TYPES[self.machine_type], count=self.accelerator_count)

    @property
    def max_nodes(self) -> int:
        """Total across zones; 0 if the pool is disabled."""
        return self._total(self.max_node_count)

    @property
    def min_nodes(self) -> int:
        """Total across zones; 0 for a disabled pool, whose idle nodes go."""
        return self._total(self.min_node_count)

    @property
    def taken_back(self) -> bool:
        """Whether Google may take its nodes back at any time."""
        return self.provisioning in TAKEN_BACK

    def _total(self, count: int) -> int:
        return (count if self.node_counts == "total" else count * len(self.zones)) if self.enabled else 0

    @property
    def kind(self) -> Kind:
        return self.machine.kind


#: The keys of a pool.
KEYS = tuple(each.key for each in declared(AcceleratorPool))


def parse_pools(values: Any, *, region: str, zone: str) -> tuple[tuple[AcceleratorPool, ...], list[Problem]]:
    """The pools of the setting `acceleratorPools`, and every problem; pools are complete only without problems."""
    field = "acceleratorPools"
    if not isinstance(values, list):
        return (), [Problem(field, values, "is not a list", "give a list of pools, the best first")]
    if not values:
        reason = "has no pool, so nothing could serve"
        return (), [Problem(field, values, reason, "give at least one pool with name, machineType and maxNodeCount")]
    problems: list[Problem] = []
    if len(values) > MAX_POOLS:
        problems.append(Problem(field, None, f"has {len(values)} pools, more than {MAX_POOLS}", "remove the ones of least priority"))
    pools = []
    for index, value in enumerate(values):
        pool, found = _parse_pool(f"{field}[{index}]", value, {"region": region, "zone": zone})
        problems += found
        if not found and pool is not None:
            pools.append(pool)
    problems += _duplicates(values) + _mixed(pools)
    if len(pools) == len(values) and not any(pool.enabled for pool in pools):
        problems.append(Problem(f"{field}[].enabled", False, "is set for every pool, so nothing could serve", "leave one pool enabled"))
    return tuple(pools), problems


def _parse_pool(field: str, value: Any, known: Mapping[str, Any]) -> tuple[AcceleratorPool | None, list[Problem]]:
    if not isinstance(value, Mapping):
        reason = "is missing" if value is None else "is not a pool"
        return None, [Problem(field, value, reason, "give an object with name, machineType and maxNodeCount")]
    reader = Reader.of_element(field, value, known)
    pool = reader.read_element(AcceleratorPool, "a setting of a pool")
    if not reader.refused("minNodeCount") and not reader.refused("maxNodeCount"):
        _check_counts(pool, reader)
    if not any(map(reader.refused, ("machineType", "provisioning", "zones"))):
        _check_capacity(pool, reader)
    return pool, reader.problems


def _check_counts(pool: AcceleratorPool, reader: Reader) -> None:
    minimum, initial, maximum = pool.min_node_count, pool.initial_node_count, pool.max_node_count
    if minimum > maximum:
        reader.refuse("minNodeCount", minimum, f"is above maxNodeCount {maximum}", "lower it, or raise maxNodeCount")
    elif pool.node_counts == "total":
        if not reader.refused("initialNodeCount") and initial * len(pool.zones) > maximum:
            reason = f"in each of {len(pool.zones)} zones is more than maxNodeCount {maximum}"
            reader.refuse("initialNodeCount", initial, reason, f"give at most {maximum // len(pool.zones)}, or raise maxNodeCount")
    elif not reader.refused("initialNodeCount") and not minimum <= initial <= maximum:
        reason = f"is outside minNodeCount {minimum} to maxNodeCount {maximum}"
        reader.refuse("initialNodeCount", initial, reason, f"give a number from {minimum} to {maximum}")


def _check_capacity(pool: AcceleratorPool, reader: Reader) -> None:
    """What each way to buy nodes needs, and what GKE refuses with it."""
    if pool.provisioning == "flex-start" and not pool.machine.chip.flex_start:
        reason = f"is not what Google offers for a {pool.machine_type}"
        reader.refuse("provisioning", pool.provisioning, reason, "use on-demand, spot or a reservation")
    if pool.provisioning != "flex-start" and pool.max_run_days is not None:
        reader.refuse(
            "maxRunDays", pool.max_run_days, "is set for a pool without flex-start", "remove it, or set provisioning to flex-start"
        )
    if pool.provisioning != "reservation":
        if pool.reservation is not None:
            reason = f"is set for a pool that buys its nodes otherwise ({pool.provisioning})"
            reader.refuse("reservation", pool.reservation, reason, "set provisioning to reservation, or remove it")
    elif pool.reservation is None:
        reader.refuse("reservation", None, "is missing, and provisioning is reservation", "name the reservation")
    elif len(pool.zones) > 1:
        # https://docs.cloud.google.com/compute/docs/instances/reservations-overview: a reservation is zonal.
        reader.refuse("zones", list(pool.zones), "are several, and a reservation lies in one", "name its zone, and give each zone a pool")


def _duplicates(values: Sequence[Any]) -> list[Problem]:
    earlier: set[str] = set()
    problems = []
    for index, value in enumerate(values):
        name = value.get("name") if isinstance(value, Mapping) else None
        if not isinstance(name, str):
            # A problem of its own already.
            continue
        if name in earlier:
            problems.append(Problem(f"acceleratorPools[{index}].name", name, "is the name of an earlier pool", "give each pool its own"))
        earlier.add(name)
    return problems


def _mixed(pools: Sequence[AcceleratorPool]) -> list[Problem]:
    """One pod template runs on every pool, and names one TPU to libtpu: Kubernetes gives a container no label of its node. Of GPUs the
    entrypoint counts what it sees."""
    tpus = [pool for pool in pools if pool.kind == "tpu"]
    fact: Callable[[AcceleratorPool], object] = lambda pool: (pool.machine.generation, pool.machine.topology)  # noqa: E731
    return [
        Problem(
            "acceleratorPools",
            pool.machine_type,
            f"of pool {pool.name} differs in TPU generation and topology from {tpus[0].machine_type} of pool {tpus[0].name}, and one pod "
            "template has to be right for both",
            "use machine types with the same TPU generation and topology, or serve this pool from a stack of its own",
        )
        for pool in tpus
        if fact(pool) != fact(tpus[0])
    ]
