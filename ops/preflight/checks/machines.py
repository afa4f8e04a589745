"""Whether each pool's machine type and its GPU exist in each of its zones, and whether its reservation has room to start.

Left out: whether a machine is in stock.
"""

from __future__ import annotations

from components.settings.accelerator_pool import AcceleratorPool
from ops.findings import Finding, failed, ok, warning
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context

_TITLE = "Machine types and accelerators in the pools' zones"


def _run(context: Context) -> list[Finding]:
    wanted: dict[tuple[str, str], list[AcceleratorPool]] = {}
    for pool in context.settings.accelerators.pools:
        for zone in pool.zones:
            wanted.setdefault((pool.machine_type, zone), []).append(pool)
    reserved = [pool for pool in context.settings.accelerators.pools if pool.reservation and pool.enabled]
    return [
        *(_one(context, machine_type, zone, pools) for (machine_type, zone), pools in wanted.items()),
        *(_reservation(context, pool, pool.reservation or "") for pool in reserved),
    ]


def _one(context: Context, machine_type: str, zone: str, pools: list[AcceleratorPool]) -> Finding:
    project, machine = context.project, pools[0].machine
    what = f"{machine_type} in {zone} (pool {', '.join(pool.name for pool in pools)})"
    fix = f'gcloud compute machine-types list --project={project} --filter="name={machine_type}"'
    try:
        found = context.google.get("compute", f"compute/v1/projects/{project}/zones/{zone}/machineTypes/{machine_type}")
    except CallFailed as failure:
        if failure.reason != "not-found":
            raise
        places = _zones_with(context, machine_type)
        known = f"it is in {', '.join(places)}" if places else "this project sees it in no zone"
        return failed(what, f"does not exist there; {known}", reason=failure.message, fix=f"{fix}; then set zone or zones")
    if machine.kind == "tpu":
        # A TPU is part of its machine type, under a name of Compute Engine's own.
        return ok(what, "exists")
    carried = {str(each.get("guestAcceleratorType")): each.get("guestAcceleratorCount") for each in found.get("accelerators", [])}
    # The type of a machine to which GPUs are attached lists none.
    if not machine.counts and carried != {machine.accelerator: machine.count}:
        value = f"carries {carried or 'no accelerator'}, not {machine.count} {machine.accelerator}"
        return failed(what, value, reason="components/catalog/machines.py is out of date", fix=f"correct its row of {machine_type}")
    try:
        context.google.get("compute", f"compute/v1/projects/{project}/zones/{zone}/acceleratorTypes/{machine.accelerator}")
    except CallFailed as failure:
        if failure.reason != "not-found":
            raise
        fix = f'gcloud compute accelerator-types list --project={project} --filter="name={machine.accelerator}"'
        return failed(what, f"{machine.accelerator} does not exist there", reason=failure.message, fix=fix)
    return ok(what, f"exists, with {machine.count} {machine.accelerator}")


def _reservation(context: Context, pool: AcceleratorPool, reference: str) -> Finding:
    """Google's own module asks the same of one: preconditions of modules/compute/gke-node-pool in GoogleCloudPlatform/cluster-toolkit."""
    name = reference.partition("/reservationBlocks/")[0].rpartition("/")[2]
    project = reference.split("/")[1] if reference.startswith("projects/") else context.project
    (zone,) = pool.zones
    what = f"reservation {name} in {zone} (pool {pool.name})"
    fix = f"gcloud compute reservations describe {name} --zone={zone} --project={project}"
    try:
        found = context.google.get("compute", f"compute/v1/projects/{project}/zones/{zone}/reservations/{name}")
    except CallFailed as failure:
        if failure.reason == "denied" and project != context.project:
            return warning(what, f"not checked: project {project} does not show it", reason=failure.message, fix=fix)
        if failure.reason != "not-found":
            raise
        return failed(what, "does not exist there", reason=failure.message, fix=fix.replace(f"describe {name} --zone={zone}", "list"))
    if not found.get("specificReservationRequired"):
        reason = "a pool names its reservation, and this one is for any machine that matches"
        return failed(
            what, "is not one that has to be named", reason=reason, fix="make one with --require-specific-reservation, or set on-demand"
        )
    holds = found.get("specificReservation", {})
    machine_type = str(holds.get("instanceProperties", {}).get("machineType", pool.machine_type)).rpartition("/")[2]
    if machine_type != pool.machine_type:
        return failed(what, f"holds {machine_type}, and the pool is of {pool.machine_type}", reason="GKE takes none of it", fix=fix)
    count, used = int(holds.get("count", 0)), int(holds.get("inUseCount", 0))
    told = f"{count - used} of {count} machines are free, and the pool may have {pool.max_nodes}"
    start = pool.initial_node_count
    if count - used >= start and count >= pool.max_nodes:
        return ok(what, told)
    short = warning if count - used >= start else failed
    return short(what, told, reason=f"the pool starts with {start}", fix=f"{fix}; then lower maxNodeCount, or reserve more")


def _zones_with(context: Context, machine_type: str) -> list[str]:
    """Zones of the region first, then others, at most five."""
    zones: list[str] = []
    path = f"compute/v1/projects/{context.project}/aggregated/machineTypes"
    for page in context.google.pages("compute", path, filter=f'name = "{machine_type}"'):
        zones += [scope.removeprefix("zones/") for scope, each in page.get("items", {}).items() if each.get("machineTypes")]
    return sorted(zones, key=lambda zone: (not zone.startswith(context.settings.place.region), zone))[:5]


CHECK = Check(name="machines", title=_TITLE, needs=("credentials",), run=_run)
