"""Whether what a gateway rests on is there: the host name's address, its certificate, the proxies' subnet, the Cloud Armor policy.

Left out: a TLS Secret, which is in the cluster, and certificates that have expired by a clock of Google's.
"""

from __future__ import annotations

import socket

from components.gateway.certificate import certificate_name
from components.settings.gateway import Gateway
from ops.findings import Finding, failed, ok, skipped, warning
from ops.preflight.context import Check, Context
from ops.pulumi_command import PulumiError

_TITLE = "Host name, certificate, proxy-only subnet and Cloud Armor policy of the gateway"

#: The network of a stack without one of its own.
_DEFAULT_NETWORK = "default"


def addresses(host: str) -> list[str]:
    """The host's IPv4 addresses as this machine sees them; none where it has none."""
    try:
        return sorted({str(each[4][0]) for each in socket.getaddrinfo(host, 443, socket.AF_INET, socket.SOCK_STREAM)})
    except OSError:
        return []


def _run(context: Context) -> list[Finding]:
    gateway = context.settings.network.gateway
    if gateway is None:
        return [ok(_TITLE, "the stack has no gateway")]
    found = []
    if gateway.host_name:
        found += [_host(context, gateway), _certificate(context, gateway)]
    if gateway.regional and context.settings.network.ranges is None:
        found.append(_proxies(context, gateway))
    if gateway.security_policy:
        found.append(_policy(context, gateway))
    return found or [ok(_TITLE, "nothing of it has to be there before")]


def _host(context: Context, gateway: Gateway) -> Finding:
    what = f"DNS of {gateway.host_name}"
    fix = f"after `up` make the records that `pulumi stack output dns_records --stack {context.stack}` prints"
    found = addresses(gateway.host_name)
    if not found:
        reason = "this machine finds no address; a private zone of the VPC may have one"
        return warning(what, "has no address", reason=reason, fix=fix)
    value = f"is {', '.join(found)}"
    try:
        own = context.pulumi.output("service_ip")
    except PulumiError as error:
        return warning(what, f"{value}, and the gateway's address could not be read", reason=str(error), fix=fix)
    if own is None:
        return ok(what, f"{value}; the stack has no address yet that it could be compared with")
    if found == [own]:
        return ok(what, f"{value}, the gateway's address")
    reason = f"the gateway has {own}: requests go elsewhere, unless a proxy of yours is in between"
    return warning(what, value, reason=reason, fix=fix)


def _certificate(context: Context, gateway: Gateway) -> Finding:
    project, source = context.project, gateway.certificate
    assert source is not None
    if source.secret:
        namespace = context.settings.server.namespace
        reason = "it is in the cluster, which preflight does not ask"
        return skipped(f"TLS Secret {source.secret}", reason=reason, fix=f"kubectl get secret {source.secret} --namespace={namespace}")
    if source.map:
        found = context.google.find("certificatemanager", f"v1/projects/{project}/locations/global/certificateMaps/{source.map}")
        what = f"certificate map {source.map}"
        if found is None:
            fix = f"gcloud certificate-manager maps create {source.map} --project={project}, with an entry for {gateway.host_name}"
            return failed(what, f"does not exist in project {project}", reason="gateway.certificate.map names it", fix=fix)
        return _entry(context, gateway, source.map)
    location = context.settings.place.region if gateway.regional else "global"
    name = certificate_name(context.settings.cluster.name, gateway.host_name)
    found = context.google.find("certificatemanager", f"v1/projects/{project}/locations/{location}/certificates/{name}")
    what = f"certificate {name}"
    if found is None:
        return ok(what, "is not there yet; `up` makes it")
    managed = found.get("managed", {})
    if managed.get("state") == "ACTIVE":
        return ok(what, f"is issued, until {found.get('expireTime', 'a time that Google does not say')}")
    causes = [
        managed.get("provisioningIssue", {}).get("details"),
        *(each.get("details") for each in managed.get("authorizationAttemptInfo", [])),
    ]
    fix = f"make the CNAME record that `pulumi stack output dns_records --stack {context.stack}` prints; Google looks again by itself"
    reason = "; ".join(filter(None, causes)) or "Google has not seen the record that proves the name"
    return warning(what, f"is not issued: {managed.get('state')}", reason=reason, fix=fix)


def _entry(context: Context, gateway: Gateway, name: str) -> Finding:
    """An entry is for a host name, for all names of a domain (`*.`), or for what has no other (`matcher: PRIMARY`)."""
    project, host, what = context.project, gateway.host_name, f"certificate map {name}"
    path = f"v1/projects/{project}/locations/global/certificateMaps/{name}/certificateMapEntries"
    fitting = {host, f"*.{host.partition('.')[2]}"}
    entries = [each for page in context.google.pages("certificatemanager", path) for each in page.get("certificateMapEntries", [])]
    if any(each.get("hostname") in fitting or each.get("matcher") == "PRIMARY" for each in entries):
        return ok(what, f"has an entry for {host}")
    fix = (
        f"gcloud certificate-manager maps entries create gateway --map={name} --hostname={host} --certificates=CERTIFICATE "
        f"--project={project}"
    )
    return failed(what, f"has no entry for {host}", reason="the load balancer would have no certificate for that name", fix=fix)


def _proxies(context: Context, gateway: Gateway) -> Finding:
    """Load balancers of a region share one such subnet in a network."""
    existing, region = context.settings.network.existing, context.settings.place.region
    project = existing.host_project or context.project if existing else context.project
    network = existing.network if existing else _DEFAULT_NETWORK
    what = f"proxy-only subnet in {region}"
    make = (
        f"gcloud compute networks subnets create proxy-only --project={project} --region={region} --network={network} "
        f"--purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE --range={gateway.proxy_range}"
    )
    found = [
        str(each.get("ipCidrRange"))
        for page in context.google.pages(
            "compute", f"compute/v1/projects/{project}/regions/{region}/subnetworks", filter='purpose = "REGIONAL_MANAGED_PROXY"'
        )
        for each in page.get("items", [])
        if str(each.get("network", "")).endswith(f"/networks/{network}") and each.get("role") == "ACTIVE"
    ]
    if not found:
        reason = f"{gateway.class_name} has its proxies in one, and network {network} has none there"
        return failed(what, "does not exist", reason=reason, fix=make)
    # Without networkPolicy nothing here goes by the range.
    if context.settings.network.network_policy and gateway.proxy_range not in found:
        fix = f"pulumi config set --path gateway.proxyRange {found[0]} --stack {context.stack}"
        reason = "with networkPolicy, pods admit the proxies by that range alone"
        return failed(what, f"is {found[0]}, and gateway.proxyRange is {gateway.proxy_range}", reason=reason, fix=fix)
    return ok(what, f"is {', '.join(found)}")


def _policy(context: Context, gateway: Gateway) -> Finding:
    project, name = context.project, gateway.security_policy
    place = f"regions/{context.settings.place.region}" if gateway.regional else "global"
    what = f"Cloud Armor policy {name} ({place})"
    if context.google.find("compute", f"compute/v1/projects/{project}/{place}/securityPolicies/{name}") is None:
        where = f"--region={context.settings.place.region}" if gateway.regional else "--global"
        fix = f"gcloud compute security-policies create {name} --project={project} {where} --type=CLOUD_ARMOR"
        return failed(
            what, "does not exist", reason="gateway.securityPolicy names it, and a load balancer takes its own scope's alone", fix=fix
        )
    return ok(what, "exists")


CHECK = Check(name="gateway", title=_TITLE, needs=("credentials",), run=_run)
