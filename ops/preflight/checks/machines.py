"""Whether each pool's machine type, and its GPU, exist in each of the pool's zones. Left out: whether one is in stock."""

from __future__ import annotations

from components.settings.accelerator_pool import AcceleratorPool
from ops.findings import Finding, failed, ok
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context

_TITLE = "Machine types and accelerators in the pools' zones"


def _run(context: Context) -> list[Finding]:
    wanted: dict[tuple[str, str], list[AcceleratorPool]] = {}
    for pool in context.settings.accelerators.pools:
        for zone in pool.zones:
            wanted.setdefault((pool.machine_type, zone), []).append(pool)
    return [_one(context, machine_type, zone, pools) for (machine_type, zone), pools in wanted.items()]


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
    if carried != {machine.accelerator: machine.count}:
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


def _zones_with(context: Context, machine_type: str) -> list[str]:
    """Zones of the region first, then others, at most five."""
    zones: list[str] = []
    path = f"compute/v1/projects/{context.project}/aggregated/machineTypes"
    for page in context.google.pages("compute", path, filter=f'name = "{machine_type}"'):
        zones += [scope.removeprefix("zones/") for scope, each in page.get("items", {}).items() if each.get("machineTypes")]
    return sorted(zones, key=lambda zone: (not zone.startswith(context.settings.place.region), zone))[:5]


CHECK = Check(name="machines", title=_TITLE, needs=("credentials",), run=_run)
