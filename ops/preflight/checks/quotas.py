"""Quotas of TPUs, GPUs and boot disks against the most that the pools may come to, and against what `up` starts with.

Spot, preemptible and flex-start machines count apart; in a region without any preemptible quota they count as standard ones
(https://docs.cloud.google.com/compute/resource-usage#preemptible-quotas; for flex-start public notes quote
docs.cloud.google.com/compute/docs/instances/provisioning-models). What the stack itself already uses is not held against it, nor what a
reservation holds, which counted when it was made (docs.cloud.google.com/compute/docs/instances/reservations-overview).
Left out: CPUs and addresses, which a ladder of this size seldom exhausts, nodes that an upgrade adds, and preloaded disks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.catalog.boot_disks import DEFAULT_DISK_GB, SYSTEM_DISK_GB, default_disk_type, plain_disk_type
from components.catalog.machines import MACHINE_TYPES
from components.catalog.node_labels import SYSTEM_POOL_NAME
from components.settings.sections import Settings
from ops.findings import Finding, failed, ok, warning
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, explain
from ops.preflight.quota_metrics import DISK_METRICS, GPUS_ALL_REGIONS, QuotaMetric, metric_of

_TITLE = "Quotas of TPUs, GPUs and boot disks"

#: Instances in these states hold no accelerator.
_RELEASED = ("TERMINATED", "SUSPENDED")

#: (accelerator, whether preemptible) -> chips or GPUs
Kind = tuple[str, bool]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """In chips, GPUs, or GB of disk: all pools of a kind together."""

    initial: int
    maximum: int
    pools: tuple[str, ...]

    def __add__(self, other: Demand) -> Demand:
        return Demand(
            initial=self.initial + other.initial, maximum=self.maximum + other.maximum, pools=tuple(dict.fromkeys(self.pools + other.pools))
        )


@dataclass(frozen=True, kw_only=True)
class Limit:
    """`value` -1: unlimited. `used` counts the whole project, this stack too."""

    value: float
    used: float


def demands(settings: Settings) -> dict[Kind, Demand]:
    """What the ladder may reach: `maxNodeCount` of every zone of every enabled pool, times the accelerators of a node."""
    found: dict[Kind, Demand] = {}
    for pool in settings.accelerators.pools:
        if not pool.enabled or pool.provisioning == "reservation":
            continue
        kind = (pool.machine.accelerator, pool.provisioning != "on-demand")
        demand = Demand(
            initial=pool.initial_node_count * len(pool.zones) * pool.machine.count,
            maximum=pool.max_nodes * pool.machine.count,
            pools=(pool.name,),
        )
        found[kind] = found[kind] + demand if kind in found else demand
    return found


def disk_demands(settings: Settings) -> dict[str, Demand]:
    """Disk type -> GB of the boot disks of the system pool, which is whole from the start, and of the enabled accelerator pools."""
    cluster = settings.cluster
    system = settings.place.system_zones * cluster.system_nodes_per_zone * SYSTEM_DISK_GB
    found = {plain_disk_type(cluster.system_machine_type): Demand(initial=system, maximum=system, pools=(SYSTEM_POOL_NAME,))}
    for pool in settings.accelerators.pools:
        if not pool.enabled:
            continue
        disk_type, size = default_disk_type(pool.machine_type), pool.disk_size_gb or DEFAULT_DISK_GB
        demand = Demand(initial=pool.initial_node_count * len(pool.zones) * size, maximum=pool.max_nodes * size, pools=(pool.name,))
        found[disk_type] = found[disk_type] + demand if disk_type in found else demand
    return found


def disks_in_use(instances: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Disk type -> GB of the boot disks of a cluster's instances, stopped ones too."""
    held: dict[str, int] = {}
    for instance in instances:
        machine_type = str(instance.get("machineType", "")).rpartition("/")[2]
        disk_type = default_disk_type(machine_type) if _gpus(instance, machine_type) else plain_disk_type(machine_type)
        size = sum(int(disk["diskSizeGb"]) for disk in instance.get("disks", []) if disk.get("boot"))
        held[disk_type] = held.get(disk_type, 0) + size
    return held


def in_use(instances: Iterable[Mapping[str, Any]]) -> dict[Kind, int]:
    """Accelerators that instances hold, by kind; of machine types that `components.catalog.machines` knows."""
    held: dict[Kind, int] = {}
    for instance in instances:
        machine_type = str(instance.get("machineType", "")).rpartition("/")[2]
        count = _gpus(instance, machine_type)
        if not count or instance.get("status") in _RELEASED:
            continue
        scheduling = instance.get("scheduling", {})
        preemptible = bool(scheduling.get("preemptible")) or scheduling.get("provisioningModel") in ("SPOT", "FLEX_START")
        kind = (MACHINE_TYPES[machine_type].accelerator, preemptible)
        held[kind] = held.get(kind, 0) + count
    return held


def _gpus(instance: Mapping[str, Any], machine_type: str) -> int:
    """Chips or GPUs of an instance; 0 of a machine type that is not known, or of an N1 to which none is attached."""
    machine = MACHINE_TYPES.get(machine_type)
    if machine is None or not machine.counts:
        return machine.count if machine else 0
    return sum(
        int(each.get("acceleratorCount", 0))
        for each in instance.get("guestAccelerators", [])
        if str(each.get("acceleratorType", "")).endswith(f"/{machine.accelerator}")
    )


def judge(what: str, limit: Limit, own: int, demand: Demand, fix: str, note: str = "") -> Finding:
    """Enough for the maximum, only for the start, or not even for that."""
    several = len(demand.pools) > 1
    pools = f"pool{'s' if several else ''} {', '.join(demand.pools)}"
    if limit.value < 0:
        return ok(what, f"unlimited; {pools} may reach {demand.maximum}")
    others = max(0.0, limit.used - own)
    free = limit.value - others
    have = f"{free:g} free of {limit.value:g}"
    if free >= demand.maximum:
        return ok(what, f"{have}; {pools} may reach {demand.maximum}")
    reason = f"limit {limit.value:g}, others use {others:g}, this stack {own}" + (f"; {note}" if note else "")
    if free >= demand.initial:
        value = f"{have}, enough to start with ({demand.initial}); {pools} may reach {demand.maximum}"
        return warning(what, value, reason=reason, fix=f"{fix}, or lower maxNodeCount")
    return failed(what, f"{have}, and {pools} {'start' if several else 'starts'} with {demand.initial}", reason=reason, fix=fix)


def _run(context: Context) -> list[Finding]:
    settings = context.settings
    region = context.google.get("compute", f"compute/v1/projects/{context.project}/regions/{settings.place.region}")
    instances = _instances(context)
    own_instances = [
        each
        for each in instances
        if each.get("labels", {}).get("goog-k8s-cluster-name") == settings.cluster.name
        and each.get("labels", {}).get("goog-k8s-cluster-location") == settings.place.cluster_location
    ]
    own = in_use(own_instances)
    reader = _Limits(context, _quotas(region), in_use(instances))
    wanted = demands(settings)
    notes: dict[Kind, str] = {}
    for kind in [each for each in wanted if each[1]]:
        limit = reader.of(kind)
        if limit is None or limit.value != 0:
            continue
        standard = (kind[0], False)
        demand = wanted.pop(kind)
        wanted[standard] = wanted[standard] + demand if standard in wanted else demand
        own[standard] = own.get(standard, 0) + own.pop(kind, 0)
        notes[standard] = "the preemptible quota is 0, so Spot, preemptible and flex-start nodes count here"
    findings = []
    for kind, demand in wanted.items():
        limit, metric = reader.of(kind), _metric(kind)
        if limit is not None and metric is not None:
            mine = own.get(kind, 0)
            what, fix = _what(metric, settings), _request(context, metric, limit, demand, mine)
            findings.append(judge(what, limit, mine, demand, fix, notes.get(kind, "")))
    disks = _disks(context, reader, disks_in_use(own_instances))
    return findings + disks + reader.problems + _all_regions(context, own)


def _metric(kind: Kind) -> QuotaMetric | None:
    chip = next(machine.chip for machine in MACHINE_TYPES.values() if machine.accelerator == kind[0])
    return metric_of(chip, preemptible=kind[1])


def _disks(context: Context, reader: _Limits, own: Mapping[str, int]) -> list[Finding]:
    findings = []
    for disk_type, demand in disk_demands(context.settings).items():
        metric, mine = DISK_METRICS[disk_type], own.get(disk_type, 0)
        limit = reader.of_region(metric)
        if limit is not None:
            fix = _request(context, metric, limit, demand, mine)
            findings.append(judge(_what(metric, context.settings), limit, mine, demand, fix, f"in GB, boot disks of type {disk_type}"))
    return findings


class _Limits:
    """Limits by kind, each read once; what could not be read is a finding in `problems`."""

    def __init__(self, context: Context, regional: Mapping[str, Limit], held: Mapping[Kind, int]) -> None:
        self._context = context
        self._regional = regional
        self._held = held
        self._known: dict[Kind, Limit | None] = {}
        self.problems: list[Finding] = []

    def of(self, kind: Kind) -> Limit | None:
        if kind not in self._known:
            metric = _metric(kind)
            self._known[kind] = None if metric is None else self._read(metric, kind)
            if metric is None:
                what = f"quota of {kind[0]}, {'Spot, preemptible and flex-start' if kind[1] else 'on demand'}"
                fix = f"compare by hand: {_console(self._context.project)}"
                reason = "no source of components/catalog/machines.py names it"
                self.problems.append(warning(what, "not checked: its name is unknown", reason=reason, fix=fix))
        return self._known[kind]

    def _read(self, metric: QuotaMetric, kind: Kind) -> Limit | None:
        what = _what(metric, self._context.settings)
        try:
            limit = self._regional.get(metric.name) if metric.where == "region" else self._of_service_usage(metric, kind)
        except CallFailed as failure:
            if failure.reason != "not-found":
                self.problems.append(explain(failure, what, self._context, "roles/serviceusage.serviceUsageViewer"))
                return None
            limit = None
        if limit is None:
            self._unknown(metric)
        return limit

    def of_region(self, metric: QuotaMetric) -> Limit | None:
        """A quota that Compute Engine lists with the region; None, and a finding, where it does not."""
        limit = self._regional.get(metric.name)
        if limit is None:
            self._unknown(metric)
        return limit

    def _unknown(self, metric: QuotaMetric) -> None:
        reason = f"the name is from {metric.source}" + ("" if metric.verified else " (unverified)")
        fix = f"compare by hand: {_console(self._context.project)}"
        what = _what(metric, self._context.settings)
        self.problems.append(warning(what, "not checked: the project has no quota of this name", reason=reason, fix=fix))

    def _of_service_usage(self, metric: QuotaMetric, kind: Kind) -> Limit | None:
        name = f"projects/{self._context.project}/services/compute.googleapis.com/consumerQuotaMetrics/"
        name += metric.name.replace("/", "%2F")
        answer = self._context.google.get("serviceusage", f"v1beta1/{name}")
        value = effective_value(
            [
                (bucket.get("dimensions", {}), int(bucket["effectiveLimit"]))
                for limit in answer.get("consumerQuotaLimits", [])
                # The same metric may be limited by zone as well, or by time.
                if "{region}" in limit.get("unit", "")
                for bucket in limit.get("quotaBuckets", [])
            ],
            {"region": self._context.settings.place.region, **metric.dimensions},
        )
        # It does not tell the usage: the instances do.
        return None if value is None else Limit(value=value, used=self._held.get(kind, 0))


def _all_regions(context: Context, own: Mapping[Kind, int]) -> list[Finding]:
    """The project's bound on GPUs of every kind and region, which not every project has."""
    gpus = {machine.accelerator for machine in MACHINE_TYPES.values() if machine.kind == "gpu"}
    wanted = [demand for (accelerator, _), demand in demands(context.settings).items() if accelerator in gpus]
    if not wanted:
        return []
    project = context.google.get("compute", f"compute/v1/projects/{context.project}")
    limit = _quotas(project).get(GPUS_ALL_REGIONS.name)
    what = f"{GPUS_ALL_REGIONS.name} of the project"
    if limit is None:
        return [ok(what, "the project has no such limit")]
    demand = sum(wanted[1:], wanted[0])
    mine = sum(count for (accelerator, _), count in own.items() if accelerator in gpus)
    return [judge(what, limit, mine, demand, _request(context, GPUS_ALL_REGIONS, limit, demand, mine))]


def _quotas(answer: Mapping[str, Any]) -> dict[str, Limit]:
    return {str(each["metric"]): Limit(value=float(each["limit"]), used=float(each.get("usage", 0))) for each in answer.get("quotas", [])}


def effective_value(infos: Iterable[tuple[Mapping[str, str], int]], dimensions: Mapping[str, str]) -> int | None:
    """The value of the bucket that fits `dimensions` and names most of them, as Service Usage defines it; None: none fits.

    A bucket that leaves a dimension out is for all of its values that have no bucket of their own.
    """
    fitting = [
        (len(named), value)
        for named, value in infos
        if all(key in dimensions and dimensions[key].lower() == each.lower() for key, each in named.items())
    ]
    return max(fitting)[1] if fitting else None


def _instances(context: Context) -> list[Mapping[str, Any]]:
    """The region's instances of accelerator machine types and of the system pool's family."""
    families = sorted({each.partition("-")[0] for each in (*MACHINE_TYPES, context.settings.cluster.system_machine_type)})
    found: list[Mapping[str, Any]] = []
    for page in context.google.pages(
        "compute",
        f"compute/v1/projects/{context.project}/aggregated/instances",
        filter=f'machineType eq ".*/({"|".join(families)})-.*"',
        fields="nextPageToken,items/*/instances(machineType,status,labels,disks(boot,diskSizeGb),guestAccelerators,"
        "scheduling/preemptible,scheduling/provisioningModel)",
    ):
        for scope, each in page.get("items", {}).items():
            if scope.removeprefix("zones/").startswith(f"{context.settings.place.region}-"):
                found += each.get("instances", [])
    return found


def _what(metric: QuotaMetric, settings: Settings) -> str:
    return f"{metric.name}{''.join(f' {value}' for value in metric.dimensions.values())} in {settings.place.region}"


def _console(project: str) -> str:
    return f"https://console.cloud.google.com/iam-admin/quotas?project={project}"


def _request(context: Context, metric: QuotaMetric, limit: Limit, demand: Demand, own: int) -> str:
    value = demand.maximum + max(0.0, limit.used - own)
    places = dict(metric.dimensions) if metric.where == "project" else {"region": context.settings.place.region, **metric.dimensions}
    dimensions = ",".join(f"{key}={each}" for key, each in places.items())
    return (
        "gcloud beta quotas preferences create --service=compute.googleapis.com "
        f"--project={context.project} --quota-id={metric.quota_id} --preferred-value={value:g}"
        + (f" --dimensions={dimensions}" if dimensions else "")
        + f" (or {_console(context.project)})"
    )


CHECK = Check(name="quotas", title=_TITLE, needs=("credentials",), run=_run)
