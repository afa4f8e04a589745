"""One accelerator pool as settings describe it, and what can be wrong with one or with the list of them.

The list is in order of priority, and everything about fallback derives from it. Left out: multi-host TPU slices, on which
vLLM does not run in GKE (its TPU serving is single-host).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from components.catalog.machines import MACHINE_TYPES, MACHINES_PAGE, Kind, MachineType, Provisioning
from components.settings.problems import Problem, nearest

#: GKE's installation of NVIDIA's driver.
GPU_DRIVER_VERSIONS = ("DEFAULT", "LATEST", "INSTALLATION_DISABLED")

#: GKE's own limit on the number of rules of a ComputeClass is higher; past ten a list of fallbacks is a mistake.
MAX_POOLS = 10

#: GKE's limits on the names of clusters and node pools.
NAME_PATTERN = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
MAX_NAME_LENGTH = 40

#: The cluster's own node pool, without accelerators; no accelerator pool may take its name.
SYSTEM_POOL_NAME = "system"

#: Zones of the region in which it has nodes.
SYSTEM_ZONES = 3

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

#: Key of a pool -> its default as a page shows it, and what it is.
KEYS: Mapping[str, tuple[str, str]] = {
    "name": ("required", "Name of the node pool, at most 40 characters."),
    "machineType": ("required", "A machine type with an accelerator, from `components/catalog/machines.py`."),
    "maxNodeCount": ("required", "Most nodes in each zone."),
    "minNodeCount": (
        "`0`",
        "Fewest nodes in each zone; they are billed while idle. On another pool than the first, replicas that land there stay "
        "([why](ladder.md)).",
    ),
    "initialNodeCount": ("`minNodeCount`", "Nodes in each zone at creation; the autoscaler decides later, so a change has no effect."),
    "provisioning": (
        "`on-demand`",
        "`on-demand`, `spot`, or the older `preemptible`. A change replaces the pool, whose replicas end at once.",
    ),
    "accelerator": ("the machine's", "Checked against what the machine carries."),
    "gpuDriverVersion": (
        "`LATEST`",
        f"{', '.join(f'`{each}`' for each in GPU_DRIVER_VERSIONS)}; GPUs only. A change replaces the pool, whose replicas end at once.",
    ),
    "tpuTopology": ("the machine's", "Checked against the machine; TPUs on one host only."),
    "zones": ("`[zone]`", "Zones of the region."),
    "diskSizeGb": ("GKE's", f"Size of the boot disk in GB, {MIN_DISK_GB} to {_MAX_DISK_GB}."),
    "enabled": (
        "`true`",
        "`false` takes the pool out of service and keeps it: its replicas move, its nodes go, and nothing is replaced or deleted.",
    ),
    "secondaryBootDiskImage": (
        "none",
        "Disk image with preloaded container images, as `global/images/IMAGE` or `projects/PROJECT/global/images/IMAGE`; a change "
        "replaces the pool.",
    ),
}


@dataclass(frozen=True, kw_only=True)
class AcceleratorPool:
    """Node counts are for each of the pool's zones, as GKE's own are."""

    name: str
    machine_type: str
    provisioning: Provisioning
    initial_node_count: int
    min_node_count: int
    max_node_count: int
    zones: tuple[str, ...]
    #: None for a machine with TPUs.
    gpu_driver_version: str | None
    #: GB of the boot disk; None leaves GKE's default.
    disk_size_gb: int | None
    #: False takes the pool out of service and keeps it: no rule of the class names it, no replica runs on it, and its nodes go.
    enabled: bool
    #: Disk image with preloaded container images, which every node gets as a second disk.
    secondary_boot_disk_image: str | None = None

    @property
    def machine(self) -> MachineType:
        return MACHINE_TYPES[self.machine_type]

    @property
    def max_nodes(self) -> int:
        """Total across zones; 0 if the pool is disabled."""
        return self.max_node_count * len(self.zones) if self.enabled else 0

    @property
    def kind(self) -> Kind:
        return self.machine.kind


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
        reader = _PoolReader(f"{field}[{index}]", value, problems)
        pool = reader.read(region=region, zone=zone)
        if pool is not None:
            pools.append(pool)
    problems += _duplicates(values) + _mixed(pools)
    if len(pools) == len(values) and not any(pool.enabled for pool in pools):
        problems.append(Problem(f"{field}[].enabled", False, "is set for every pool, so nothing could serve", "leave one pool enabled"))
    return tuple(pools), problems


class _PoolReader:
    """Reads one element of the list; every problem goes to `problems`."""

    _value: Any

    def __init__(self, field: str, value: Any, problems: list[Problem]) -> None:
        self._field = field
        # A key without a value counts as left out.
        self._value = value
        if isinstance(value, Mapping):
            self._value = {key: each for key, each in value.items() if each is not None or key not in KEYS}
        self._problems = problems

    def read(self, *, region: str, zone: str) -> AcceleratorPool | None:
        before = len(self._problems)
        if not isinstance(self._value, Mapping):
            self._problem("", self._value, "is not a pool", "give an object with name, machineType and maxNodeCount")
            return None
        for key in self._value:
            if key not in KEYS:
                self._problems.append(Problem(f"{self._field}.{key}", self._value[key], "is not a setting of a pool", nearest(key, KEYS)))
        name = self._name()
        machine_type = self._machine_type()
        machine = MACHINE_TYPES.get(machine_type)
        provisioning = self._one_of("provisioning", get_args(Provisioning), "on-demand")
        minimum = self._count("minNodeCount", 0)
        maximum = self._count("maxNodeCount", None)
        # A broken minimum is one problem, not two.
        initial = self._count("initialNodeCount", 0 if minimum is None else minimum)
        self._check_counts(minimum, initial, maximum)
        driver = None
        if machine is not None:
            self._check_accelerator(machine_type, machine)
            driver = self._driver(machine)
        disk = self._value.get("diskSizeGb")
        if disk is not None and not (_is_int(disk) and MIN_DISK_GB <= disk <= _MAX_DISK_GB):
            small = _is_int(disk) and 0 < disk < MIN_DISK_GB
            reason = "leaves no room for the images, of about 10 GB each and as much again unpacked" if small else "is not a disk size"
            self._problem("diskSizeGb", disk, reason, f"give whole GB from {MIN_DISK_GB} to {_MAX_DISK_GB}")
        disk_image = self._disk_image()
        zones = self._zones(region, zone)
        enabled = self._value.get("enabled", True)
        if not isinstance(enabled, bool):
            self._problem("enabled", enabled, "is neither true nor false", "give true or false")
        if len(self._problems) > before:
            return None
        assert minimum is not None
        assert maximum is not None
        assert initial is not None
        return AcceleratorPool(
            name=name,
            machine_type=machine_type,
            provisioning=provisioning,  # type: ignore[arg-type]  # _one_of has checked it
            initial_node_count=initial,
            min_node_count=minimum,
            max_node_count=maximum,
            zones=zones,
            gpu_driver_version=driver,
            disk_size_gb=disk,
            enabled=enabled,
            secondary_boot_disk_image=disk_image,
        )

    def _name(self) -> str:
        name = self._value.get("name")
        if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
            self._problem(
                "name",
                name,
                "is not a valid node pool name",
                "use lower-case letters, digits and hyphens, a letter first and no hyphen last",
            )
            return ""
        if name == SYSTEM_POOL_NAME:
            self._problem("name", name, "is the name of the cluster's own node pool", "choose another name")
        if len(name) > MAX_NAME_LENGTH:
            self._problem("name", name, f"has {len(name)} characters, and GKE allows {MAX_NAME_LENGTH}", "shorten it")
        return name

    def _machine_type(self) -> str:
        machine_type = self._value.get("machineType")
        if not isinstance(machine_type, str) or machine_type not in MACHINE_TYPES:
            self._problem(
                "machineType",
                machine_type,
                "is not a machine type with an accelerator that this program knows",
                nearest(machine_type, MACHINE_TYPES, MACHINES_PAGE),
            )
            return ""
        return str(machine_type)

    def _check_accelerator(self, machine_type: str, machine: MachineType) -> None:
        accelerator = self._value.get("accelerator")
        if accelerator is not None and accelerator != machine.accelerator:
            fix = f"use {machine.accelerator}, remove the key, or choose another machineType"
            self._problem("accelerator", accelerator, f"is not what a {machine_type} carries", fix)
        topology = self._value.get("tpuTopology")
        if topology is None:
            return
        if machine.kind == "gpu":
            self._problem("tpuTopology", topology, f"is set for {machine_type}, which has no TPU", "remove it")
        elif topology != machine.topology:
            self._problem(
                "tpuTopology",
                topology,
                f"is not the topology of one {machine_type}, and vLLM serves on one host only",
                f"use {machine.topology}, or remove it",
            )

    def _driver(self, machine: MachineType) -> str | None:
        if machine.kind == "tpu":
            if (driver := self._value.get("gpuDriverVersion")) is not None:
                self._problem("gpuDriverVersion", driver, "is set for a machine without GPU", "remove it")
            return None
        return self._one_of("gpuDriverVersion", GPU_DRIVER_VERSIONS, "LATEST")

    def _one_of(self, key: str, known: Sequence[str], default: str) -> str:
        value = self._value.get(key, default)
        if value not in known:
            self._problem(key, value, f"is not one of {', '.join(known)}", nearest(value, known))
        return str(value)

    def _count(self, key: str, default: int | None) -> int | None:
        value = self._value.get(key, default)
        if not _is_int(value) or not 0 <= value <= _MAX_NODES:
            self._problem(key, value, "is not a number of nodes", f"give a whole number from 0 to {_MAX_NODES}")
            return None
        return int(value)

    def _check_counts(self, minimum: int | None, initial: int | None, maximum: int | None) -> None:
        if maximum is None or minimum is None:
            return
        if maximum == 0:
            self._problem("maxNodeCount", maximum, "leaves the pool without room", "give at least 1, or remove the pool")
        elif minimum > maximum:
            self._problem("minNodeCount", minimum, f"is above maxNodeCount {maximum}", "lower it, or raise maxNodeCount")
        elif initial is not None and not minimum <= initial <= maximum:
            self._problem(
                "initialNodeCount",
                initial,
                f"is outside minNodeCount {minimum} to maxNodeCount {maximum}",
                f"give a number from {minimum} to {maximum}",
            )

    def _disk_image(self) -> str | None:
        value = self._value.get("secondaryBootDiskImage")
        if value is not None and not (isinstance(value, str) and _DISK_IMAGE.fullmatch(value)):
            self._problem(
                "secondaryBootDiskImage",
                value,
                "is not a disk image name that GKE takes",
                "give global/images/IMAGE, or projects/PROJECT/global/images/IMAGE for one of another project",
            )
            return None
        return value

    def _zones(self, region: str, zone: str) -> tuple[str, ...]:
        zones = self._value.get("zones", [zone])
        if not isinstance(zones, list) or not zones:
            self._problem("zones", zones, "is not a list of zones", f"give a list such as [{zone or 'ZONE'}], or remove it")
            return ()
        for index, each in enumerate(zones) if "zones" in self._value else ():
            if (problem := zone_problem(each, region)) is not None:
                self._problem("zones", each, *problem)
            elif each in zones[:index]:
                self._problem("zones", each, "is listed twice, and its nodes would be counted twice", "remove one of the two")
        return tuple(map(str, zones))

    def _problem(self, key: str, value: Any, reason: str, fix: str) -> None:
        field = f"{self._field}.{key}" if key else self._field
        if value is None:
            reason = "is missing"
        self._problems.append(Problem(field, value, reason, fix))


def is_zone(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(ZONE_PATTERN, text) is not None


def zone_problem(zone: Any, region: str) -> tuple[str, str] | None:
    """Reason and fix where it is not a zone of the region; of something that is not a region, zones have any."""
    known = re.fullmatch(REGION_PATTERN, region) is not None
    if is_zone(zone) and (not known or zone.rpartition("-")[0] == region):
        return None
    return f"is not a zone of region {region}" if known else "is not a zone", f"use one such as {region if known else 'REGION'}-b"


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
    """One pod template runs on every pool, so what its environment and arguments say must be true on all of a kind."""
    tpu: Callable[[MachineType], object] = lambda machine: (machine.generation, machine.topology)  # noqa: E731
    gpu: Callable[[MachineType], object] = lambda machine: machine.count  # noqa: E731
    problems = []
    for kind, what, key in (("tpu", "TPU generation and topology", tpu), ("gpu", "number of GPUs", gpu)):
        of_kind = [pool for pool in pools if pool.kind == kind]
        odd = [pool for pool in of_kind if key(pool.machine) != key(of_kind[0].machine)]
        problems += [
            Problem(
                "acceleratorPools",
                pool.machine_type,
                f"of pool {pool.name} differs in {what} from {of_kind[0].machine_type} of pool {of_kind[0].name}, and one pod "
                "template has to be right for both",
                f"use machine types with the same {what}",
            )
            for pool in odd
        ]
    return problems
