"""Whether an existing network (`network.existing`) has what private nodes of the stack need, and lets GKE use it.

Nothing of it is made by the program: its owner gives ranges, Private Google Access, a NAT and, for a Shared VPC, roles to the service
project's accounts (https://docs.cloud.google.com/kubernetes-engine/docs/how-to/cluster-shared-vpc). Left out: firewall rules, and whether
the host project is attached. Without settings of a network the project's `default` has to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from components.settings.checks import most_nodes
from components.settings.network_ranges import ExistingNetwork, NetworkRanges
from ops.findings import Finding, failed, ok, warning
from ops.preflight.calls import CallFailed
from ops.preflight.context import Check, Context, explain, grant_command

_TITLE = "An existing network, its ranges, its way out and its roles"

_NETWORK_USER, _HOST_AGENT = "roles/compute.networkUser", "roles/container.hostServiceAgentUser"


def _run(context: Context) -> list[Finding]:
    existing, region = context.settings.network.existing, context.settings.place.region
    if existing is None:
        return [ok("network", "the stack's own") if context.settings.network.ranges else _default(context)]
    host = existing.host_project or context.project
    place = f"compute/v1/projects/{host}/regions/{region}"
    what = f"subnetwork {existing.subnetwork} of {host} in {region}"
    try:
        subnetwork = context.google.get("compute", f"{place}/subnetworks/{existing.subnetwork}")
    except CallFailed as failure:
        if failure.reason != "not-found":
            raise
        fix = f'gcloud compute networks subnets list --project={host} --filter="region:{region}"; then set network.existing.subnetwork'
        return [failed(what, "does not exist", reason=failure.message, fix=fix)]
    findings = [*_subnetwork(context, existing, subnetwork, what, host), _way_out(context, existing, f"{place}/routers", host)]
    return [*findings, *(_shared(context, existing, f"{place}/subnetworks/{existing.subnetwork}", host) if existing.host_project else ())]


def _default(context: Context) -> Finding:
    """The project's own, which an organisation's policy may have left out (constraints/compute.skipDefaultNetworkCreation)."""
    what = "network default"
    try:
        context.google.get("compute", f"compute/v1/projects/{context.project}/global/networks/default")
    except CallFailed as failure:
        if failure.reason != "not-found":
            raise
        fix = f"gcloud compute networks create default --subnet-mode=auto --project={context.project}, or give the stack its own (network)"
        return failed(what, "does not exist, and the settings name no other", reason=failure.message, fix=fix)
    return ok(what, "exists")


def _subnetwork(context: Context, existing: ExistingNetwork, found: Mapping[str, Any], what: str, host: str) -> Iterable[Finding]:
    update = f"gcloud compute networks subnets update {existing.subnetwork} --project={host} --region={context.settings.place.region}"
    ranges = {each["rangeName"]: each["ipCidrRange"] for each in found.get("secondaryIpRanges", [])}
    missing = [name for name in (existing.pod_range, existing.service_range) if name not in ranges]
    bad = []
    if (network := str(found.get("network")).rpartition("/")[2]) != existing.network:
        fix = f"set network.existing.network to {network}, or name another subnetwork"
        bad.append(failed(what, f"is of network {network}", reason=f"the settings name {existing.network}", fix=fix))
    if missing:
        fix = f"{update} --add-secondary-ranges={missing[0]}=CIDR, or name one that it has"
        reason = f"its secondary ranges are {', '.join(sorted(ranges)) or 'none'}"
        bad.append(failed(what, f"lacks the secondary range {' and '.join(missing)}", reason=reason, fix=fix))
    else:
        sizes = NetworkRanges(nodes=found["ipCidrRange"], pods=ranges[existing.pod_range], services=ranges[existing.service_range])
        if (nodes := most_nodes(context.settings)) > sizes.max_nodes:
            value = f"has addresses for {sizes.max_nodes} nodes, and all pools together may have {nodes}"
            fix = "name longer ranges, or lower maxNodeCount"
            bad.append(failed(what, value, reason="each node takes a /24 of the pods' range, and other clusters may use it too", fix=fix))
    if not found.get("privateIpGoogleAccess"):
        reason = "without it private nodes reach neither images nor logging"
        bad.append(failed(what, "has no Private Google Access", reason=reason, fix=f"{update} --enable-private-ip-google-access"))
    return bad or [ok(what, "exists, with its ranges and Private Google Access")]


def _way_out(context: Context, existing: ExistingNetwork, path: str, host: str) -> Finding:
    what = f"way out of network {existing.network}"
    routers = [each for page in context.google.pages("compute", path) for each in page.get("items", [])]
    if any(each.get("nats") and str(each.get("network")).endswith(f"/networks/{existing.network}") for each in routers):
        return ok(what, "Cloud NAT")
    reason = "private nodes download the model from Hugging Face, and images from Docker Hub; a proxy or a firewall's NAT does as well"
    create = f"gcloud compute routers nats create NAT --router=ROUTER --project={host}"
    fix = f"{create} --auto-allocate-nat-external-ips --nat-all-subnet-ip-ranges"
    return warning(what, "no Cloud NAT in the region", reason=reason, fix=fix)


def _shared(context: Context, existing: ExistingNetwork, subnetwork: str, host: str) -> Iterable[Finding]:
    """The roles of the service project's two accounts, each on the subnetwork or on the whole host project."""
    what = f"roles of {context.project} in host project {host}"
    try:
        number = str(context.google.get("cloudresourcemanager", f"v3/projects/{context.project}")["name"]).rpartition("/")[2]
        of_host = _grants(context.google.post("cloudresourcemanager", f"v3/projects/{host}:getIamPolicy", {}))
        grants = of_host | _grants(context.google.get("compute", f"{subnetwork}/getIamPolicy"))
    except CallFailed as failure:
        return [explain(failure, what, context, "roles/iam.securityReviewer")]
    gke = f"serviceAccount:service-{number}@container-engine-robot.iam.gserviceaccount.com"
    apis = f"serviceAccount:{number}@cloudservices.gserviceaccount.com"
    missing = [grant for grant in ((gke, _HOST_AGENT), (gke, _NETWORK_USER), (apis, _NETWORK_USER)) if grant not in grants]
    if not missing:
        return [ok(what, "GKE may use the network")]
    reason = "GKE makes nodes and addresses in the network as these accounts"
    return [failed(what, f"{member} lacks {role}", reason=reason, fix=grant_command(host, member, role)) for member, role in missing]


def _grants(policy: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(member, each["role"]) for each in policy.get("bindings", []) for member in each.get("members", [])}


CHECK = Check(name="network", title=_TITLE, needs=("credentials",), run=_run)
