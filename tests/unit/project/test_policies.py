"""Each rule of the policy pack on what passes it, what fails it, and what a preview knows by half."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from components.catalog.prices import node_price
from policies.gateway import BACKEND_POLICY, GATEWAY, ROUTE
from policies.rule import UNKNOWN, Finding, Resource, ResourceRule, Undecided, Violation
from policies.rules import RULES
from tests.unit.program import ROOT, TOKEN, Run, run_program

BY_NAME = {rule.name: rule for rule in RULES}

CLUSTER = "gcp:container/cluster:Cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
DIGEST = "asia-northeast1-docker.pkg.dev/p/r/i@sha256:" + "a" * 64
ACCOUNT = "nodes@project.iam.gserviceaccount.com"
DEFAULT_ACCOUNT = "123456-compute@developer.gserviceaccount.com"


def resource(type_: str, name: str = "it", *, stack: str = "prod", protect: bool = False, **properties: Any) -> Resource:
    urn = f"urn:pulumi:{stack}::tpu-gpu-fungibility::{type_}::{name}"
    return Resource(urn=urn, type=type_, name=name, properties=properties, protect=protect)


def cluster(name: str = "cluster", **properties: Any) -> Resource:
    return resource(CLUSTER, name, **properties)


def pool(name: str = "l4", **properties: Any) -> Resource:
    return resource(NODE_POOL, name, **properties)


def ranges(*blocks: Any, **more: Any) -> dict[str, Any]:
    return {"masterAuthorizedNetworksConfig": {"cidrBlocks": [{"cidrBlock": each} for each in blocks], **more}}


def accelerator(machine: Any = "g2-standard-4", **properties: Any) -> Resource:
    config = {"machineType": machine, "taints": [{"key": "k", "value": "v", "effect": "NO_SCHEDULE"}]}
    config |= properties.pop("nodeConfig", {})
    whole = {"location": "asia-northeast1", "nodeLocations": ["asia-northeast1-b"], "autoscaling": {"maxNodeCount": 2}}
    return pool(nodeConfig=config, **(whole | properties))


def deployment(*containers: Any, labels: Any = None) -> Resource:
    template = {"metadata": {"labels": labels or {"app": "vllm"}}, "spec": {"containers": list(containers)}}
    return resource(DEPLOYMENT, "vllm", spec={"template": template})


def container(name: Any = "vllm-gpu", **properties: Any) -> dict[str, Any]:
    return {"name": name, "image": DIGEST, **properties}


def service(**spec: Any) -> Resource:
    return resource(SERVICE, "vllm-service", spec={"type": "LoadBalancer", "selector": {"app": "vllm"}, **spec})


def gateway(class_name: Any = "gke-l7-global-external-managed") -> Resource:
    listeners = [{"name": "http", "protocol": "HTTP", "port": 80}, {"name": "https", "protocol": "HTTPS", "port": 443}]
    spec = {"gatewayClassName": class_name, "listeners": listeners}
    return resource(GATEWAY, "gateway", metadata={"name": "vllm-service"}, spec=spec)


def route(listener: str | None = "https", rules: Any = None) -> Resource:
    parent = {"name": "vllm-service", **({"sectionName": listener} if listener else {})}
    return resource(ROUTE, "route", spec={"parentRefs": [parent], "rules": rules or [{"backendRefs": [{"name": "vllm-service"}]}]})


SERVED = resource(SERVICE, "vllm-service", metadata={"name": "vllm-service"}, spec={"type": "ClusterIP", "selector": {"app": "vllm"}})
KEY = [{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "vllm-api-key", "key": "key"}}}]
KEYLESS, KEYED = deployment(container()), deployment(container(env=KEY))


@dataclass(frozen=True)
class Case:
    """`violations` and `undecided`: what each finding's text must hold, in order."""

    rule: str
    what: str
    resources: list[Resource]
    violations: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)


CASES = [
    Case("no-public-control-plane", "named ranges", [cluster(**ranges("203.0.113.0/24"))]),
    Case("no-public-control-plane", "no range at all lets in nodes alone", [cluster(**ranges())]),
    Case("no-public-control-plane", "DNS endpoint alone", [cluster(controlPlaneEndpointsConfig={"ipEndpointsConfig": {"enabled": False}})]),
    Case("no-public-control-plane", "nothing said", [cluster()], ["masterAuthorizedNetworksConfig: is missing"]),
    Case("no-public-control-plane", "everywhere among the ranges", [cluster(**ranges("203.0.113.0/24", "0.0.0.0/0"))],
        ['cidrBlocks[1].cidrBlock: "0.0.0.0/0" lets the whole internet']),
    Case("no-public-control-plane", "all of Google Cloud", [cluster(**ranges("203.0.113.0/24", gcpPublicCidrsAccessEnabled=True))],
        ["gcpPublicCidrsAccessEnabled: true lets in every machine of Google Cloud"]),
    Case("no-public-control-plane", "ranges unknown", [cluster(masterAuthorizedNetworksConfig=UNKNOWN)],
        undecided=["masterAuthorizedNetworksConfig"]),
    Case("no-public-control-plane", "whether it has an address is unknown",
        [cluster(controlPlaneEndpointsConfig={"ipEndpointsConfig": {"enabled": UNKNOWN}})],
        undecided=["controlPlaneEndpointsConfig.ipEndpointsConfig.enabled"]),
    Case("no-default-node-account", "own account", [pool(nodeConfig={"serviceAccount": ACCOUNT})]),
    Case("no-default-node-account", "missing", [pool(nodeConfig={})], ["nodeConfig.serviceAccount: is missing, so nodes run"]),
    Case("no-default-node-account", "by name", [pool(nodeConfig={"serviceAccount": "default"})], ['"default" means that nodes']),
    Case("no-default-node-account", "by e-mail", [pool(nodeConfig={"serviceAccount": DEFAULT_ACCOUNT})],
        [f'"{DEFAULT_ACCOUNT}" is Compute Engine\'s default']),
    Case("no-default-node-account", "of nodes that GKE provisions",
        [cluster(nodeConfig={"serviceAccount": ACCOUNT}, clusterAutoscaling={"enabled": True})],
        ["clusterAutoscaling.autoProvisioningDefaults.serviceAccount: is missing"]),
    Case("no-default-node-account", "of Autopilot", [cluster(enableAutopilot=True)],
        ["clusterAutoscaling.autoProvisioningDefaults.serviceAccount: is missing"]),
    Case("no-default-node-account", "account not made yet", [pool(nodeConfig={"serviceAccount": UNKNOWN})],
        undecided=["l4: nodeConfig.serviceAccount"]),
    Case("production-is-protected", "both protections", [cluster(deletionProtection=True, protect=True)]),
    Case("production-is-protected", "another stack", [cluster(stack="dev", deletionProtection=False)]),
    Case("production-is-protected", "neither", [cluster(deletionProtection=False)],
        ["deletionProtection: false lets the cluster of production stack prod", "protect: false (resource option)"]),
    Case("production-is-protected", "a region of prod", [cluster(stack="prod-tokyo", deletionProtection=True)], ["prod-tokyo"]),
    Case("production-is-protected", "unknown", [cluster(deletionProtection=UNKNOWN, protect=True)], undecided=["deletionProtection"]),
    Case("images-by-digest", "by digest", [deployment(container())]),
    Case("images-by-digest", "by tag", [deployment(container(image="r.example/i:v1"))], ['[vllm-gpu].image: "r.example/i:v1"']),
    Case("images-by-digest", "Google's adapter by tag",
        [deployment(container("adapter", image="gcr.io/gke-release/custom-metrics-stackdriver-adapter:v0.16.9-gke.0"))]),
    Case("images-by-digest", "a tag that moves, of a repository that may have tags",
        [deployment(container("a", image="r.example:5000/i:latest"), container("b", image="r.example:5000/i:v1"))],
        ['[a].image: "r.example:5000/i:latest"'], options={"byTag": ["r.example:5000/i"]}),
    Case("images-by-digest", "init container of a CronJob",
        [resource("kubernetes:batch/v1:CronJob", spec={"jobTemplate": {"spec": {"template": {"spec": {
        "initContainers": [container("first", image="busybox")], "containers": [container()]}}}}})],
        ["spec.jobTemplate.spec.template.spec.initContainers[first].image"]),
    Case("images-by-digest", "one unknown, one by tag", [deployment(container("a", image=UNKNOWN), container("b", image="i:1"))],
        ["[b].image"], ["[a].image"]),
    Case("no-remote-code-with-privilege", "code without privilege", [deployment(container(args=["--trust-remote-code"]))]),
    Case("no-remote-code-with-privilege", "privilege without code", [deployment(container(securityContext={"privileged": True}))]),
    Case("no-remote-code-with-privilege", "both",
        [deployment(container(securityContext={"privileged": True}, args=["--seed=0", "--trust_remote"]))],
        ["[vllm-gpu].args: \"--trust_remote\" runs code from the model's repository"]),
    Case("no-remote-code-with-privilege", "unknown", [deployment(container(securityContext={"privileged": True}, args=UNKNOWN))],
        undecided=["[vllm-gpu].args"]),
    Case("no-privileged-container", "the known two", [deployment(*(
        container(name, securityContext={"privileged": True}) for name in ("vllm-gpu", "vllm-tpu")))]),
    Case("no-privileged-container", "a third", [deployment(container("shell", securityContext={"privileged": True}))],
        ["containers[shell].securityContext.privileged: true gives container shell all rights of its node"]),
    Case("no-privileged-container", "unknown", [deployment(container("web", securityContext={"privileged": UNKNOWN}))],
        undecided=["containers[web].securityContext.privileged"]),
    Case("accelerator-pool-is-tainted", "tainted", [accelerator()]),
    Case("accelerator-pool-is-tainted", "no accelerator", [pool(nodeConfig={"machineType": "e2-standard-2"})]),
    Case("accelerator-pool-is-tainted", "no taint", [accelerator(nodeConfig={"taints": None})],
        ["nodeConfig.taints: is missing, so any pod"]),
    Case("accelerator-pool-is-tainted", "a machine that the table does not know", [accelerator("a3-highgpu-8g", nodeConfig={
        "taints": []})], ["nodeConfig.taints"]),
    Case("accelerator-pool-is-tainted", "a GPU on an ordinary machine", [accelerator("n1-standard-4", nodeConfig={
        "taints": [], "guestAccelerators": [{"type": "nvidia-tesla-t4"}]})], ["nodeConfig.taints"]),
    Case("accelerator-pool-is-tainted", "a machine that has no GPU and could", [accelerator("n1-standard-4", nodeConfig={"taints": []})]),
    Case("accelerator-pool-is-tainted", "taints unknown", [accelerator(nodeConfig={"taints": UNKNOWN})], undecided=["taints"]),
    Case("accelerator-pool-is-limited", "limited", [accelerator()]),
    Case("accelerator-pool-is-limited", "limit of zero", [accelerator(autoscaling={"maxNodeCount": 0})], ["above zero"]),
    Case("accelerator-pool-is-limited", "inside the cluster",
        [cluster(nodePools=[{"nodeConfig": {"machineType": "ct6e-standard-1t"}}])], ["nodePools[0].autoscaling"]),
    Case("accelerator-pool-is-limited", "unknown", [accelerator(autoscaling={"maxNodeCount": UNKNOWN})],
        undecided=["autoscaling.maxNodeCount"]),
    Case("no-open-server", "a key", [service(), KEYED]),
    Case("no-open-server", "ranges", [service(loadBalancerSourceRanges=["203.0.113.0/24"]), KEYLESS]),
    Case("no-open-server", "inside the VPC",
        [resource(SERVICE, metadata={"annotations": {"networking.gke.io/load-balancer-type": "Internal"}}, spec={
        "type": "LoadBalancer"}), KEYLESS]),
    Case("no-open-server", "a helper without the key", [service(), deployment(container(env=KEY), container("proxy"))]),
    Case("no-open-server", "neither", [service(), KEYLESS],
        ["vllm-service: spec.loadBalancerSourceRanges: is missing, so everyone may use the accelerators, and no API key keeps them "
        "out (vllm: spec.template.spec.containers[vllm-gpu].env has no VLLM_API_KEY"]),
    Case("no-open-server", "everywhere", [service(loadBalancerSourceRanges=["0.0.0.0/0"]), KEYLESS],
        ['loadBalancerSourceRanges: "0.0.0.0/0" lets everyone']),
    Case("no-open-server", "one of two servers", [service(), deployment(container(env=KEY), container("vllm-tpu"))], ["[vllm-tpu].env"]),
    Case("no-open-server", "selects nothing", [service(selector={"app": "web"}), KEYED], ["selects no workload of this stack"]),
    Case("no-open-server", "ranges unknown", [service(loadBalancerSourceRanges=UNKNOWN), KEYLESS], undecided=["SourceRanges"]),
    Case("no-open-server", "environment unknown", [service(), deployment(container(env=UNKNOWN))], undecided=["[vllm-gpu].env"]),
    Case("no-open-gateway", "a key", [gateway(), route(), SERVED, KEYED]),
    Case("no-open-gateway", "inside the VPC", [gateway("gke-l7-rilb"), route(), SERVED, KEYLESS]),
    Case("no-open-gateway", "a policy", [gateway(), route(), SERVED, KEYLESS, resource(
        BACKEND_POLICY, spec={"targetRef": {"name": "vllm-service"}, "default": {"securityPolicy": "clients"}})]),
    Case("no-open-gateway", "neither", [gateway(), route(), SERVED, KEYLESS], ["spec.gatewayClassName: \"gke-l7-global-"]),
    Case("no-open-gateway", "class unknown", [gateway(UNKNOWN), route(), SERVED, KEYLESS], undecided=["spec.gatewayClassName"]),
    Case("no-open-gateway", "environment unknown", [gateway(), route(), SERVED, deployment(container(env=UNKNOWN))],
        undecided=["[vllm-gpu].env"]),
    Case("no-clear-text", "TLS, and a redirect to it",
        [gateway(), route(), route("http", rules=[{"filters": [{"type": "RequestRedirect"}]}])]),
    Case("no-clear-text", "inside the VPC", [gateway("gke-l7-rilb"), route("http"), resource(SERVICE, metadata={"annotations": {
        "networking.gke.io/load-balancer-type": "Internal"}}, spec={"type": "LoadBalancer"})]),
    Case("no-clear-text", "packets", [service()], ['spec.type: "LoadBalancer" passes packets from the internet']),
    Case("no-clear-text", "requests by HTTP", [gateway(), route("http")], ['spec.parentRefs: "http" brings requests']),
    Case("no-clear-text", "a route of every listener", [gateway(), route(None)], ['spec.parentRefs: "http" brings requests']),
    Case("no-clear-text", "class unknown", [gateway(UNKNOWN), route("http")], undecided=["spec.gatewayClassName"]),
    Case("cost-ceiling", "under", [accelerator()]),
    Case("cost-ceiling", "over", [accelerator(autoscaling={"maxNodeCount": 20})], ["above the ceiling of 12 (l4 20 x "]),
    Case("cost-ceiling", "over in all together", [accelerator("ct6e-standard-1t", autoscaling={"maxNodeCount": 3}),
        accelerator(autoscaling={"totalMaxNodeCount": 4})], ["l4 4 x"]),
    Case("cost-ceiling", "over with all attached GPUs", [accelerator("n1-standard-8", autoscaling={"maxNodeCount": 8}, nodeConfig={
        "guestAccelerators": [{"type": "nvidia-tesla-t4", "count": 4}]})], ["l4 8 x 1.96"]),
    Case("cost-ceiling", "maximum unknown", [accelerator(autoscaling={"maxNodeCount": UNKNOWN})], undecided=["autoscaling.maxNodeCount"]),
    Case("cost-is-known", "known", [accelerator(), accelerator("e2-standard-4", autoscaling=None, nodeCount=1)]),
    Case("cost-is-known", "unknown machine", [accelerator("a3-highgpu-8g")],
        ['nodeConfig.machineType: "a3-highgpu-8g" has no price in asia-northeast1 (provisioning on-demand)']),
    Case("cost-is-known", "flex-start", [accelerator(nodeConfig={"flexStart": True})], ["(provisioning flex-start)"]),
    Case("cost-is-known", "machine type unknown", [accelerator(UNKNOWN)], undecided=["nodeConfig.machineType"]),
]  # fmt: skip


def ask(name: str, resources: list[Resource], options: Mapping[str, Any] | None = None) -> list[Finding]:
    rule = BY_NAME[name]
    given = {**rule.defaults(), **(options or {})}
    if isinstance(rule, ResourceRule):
        return [each for one in resources for each in rule.check(one, given)]
    return list(rule.check(resources, given))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.what}")
def test_a_rule_finds_what_is_wrong_and_what_a_preview_cannot_tell(case: Case) -> None:
    found = ask(case.rule, case.resources, case.options)
    violations = [str(each) for each in found if isinstance(each, Violation)]
    undecided = [str(each) for each in found if isinstance(each, Undecided)]
    for texts, expected in ((violations, case.violations), (undecided, case.undecided)):
        assert len(texts) == len(expected), found
        for text, part in zip(texts, expected, strict=True):
            assert part in text
    assert all(". Fix: " in text for text in violations)
    assert all("known only in the update" in text for text in undecided)


def test_every_rule_has_a_passing_a_failing_and_a_half_known_case() -> None:
    for rule in RULES:
        cases = [case for case in CASES if case.rule == rule.name]
        assert any(not case.violations and not case.undecided for case in cases), rule.name
        assert any(case.violations for case in cases), rule.name
        assert any(case.undecided for case in cases), rule.name


def test_no_rule_fails_on_a_resource_of_which_nothing_is_known() -> None:
    for type_ in (CLUSTER, NODE_POOL, DEPLOYMENT, SERVICE, GATEWAY, ROUTE, "kubernetes:core/v1:Pod"):
        unknown: dict[str, Any] = {"spec": UNKNOWN, "metadata": UNKNOWN, "nodeConfig": UNKNOWN, "autoscaling": UNKNOWN}
        for properties in ({}, unknown):
            for rule in RULES:
                ask(rule.name, [resource(type_, **properties)])


# --- the program itself


def resources_of(run: Run) -> list[Resource]:
    return [
        Resource(urn=each.urn, type=each.type, name=each.name, properties=each.inputs, protect=each.protect)
        for each in run.resources.values()
        if each.custom
    ]


@pytest.fixture(scope="module")
def dev() -> list[Resource]:
    return resources_of(run_program())


def config_of(stack: str) -> dict[str, dict[str, Any]]:
    return dict(json.loads((ROOT / "policies" / f"{stack}.json").read_text()))


def violated(resources: list[Resource], config: Mapping[str, Mapping[str, Any]]) -> set[str]:
    found = {rule.name: ask(rule.name, resources, config.get(rule.name)) for rule in RULES}
    return {name for name, findings in found.items() if any(isinstance(each, Violation) for each in findings)}


@pytest.mark.parametrize("stack", sorted(path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml")))
def test_stack_of_the_project_violates_just_what_its_configuration_makes_advisory(stack: str) -> None:
    config = config_of(stack)
    advisory = {name for name, each in config.items() if each.get("enforcementLevel") == "advisory"}
    assert violated(resources_of(run_program(stack=stack)), config) == advisory


def test_highest_cost_of_the_dev_stack_is_counted_node_by_node(dev: list[Resource]) -> None:
    def price(machine: str, provisioning: Any) -> float:
        found = node_price(machine, provisioning, "asia-northeast1")
        assert found is not None
        return found.usd

    expected = 2 * price("ct6e-standard-1t", "on-demand") + 3 * price("e2-standard-2", "on-demand")
    expected += 2 * price("g2-standard-4", "preemptible") + 2 * price("g2-standard-4", "on-demand")
    (violation,) = ask("cost-ceiling", dev, {"usdPerHour": 1})
    assert isinstance(violation, Violation)
    assert violation.value == f"{expected:.2f} USD an hour"
    assert f"costs {expected:.2f} USD an hour at its largest" in (ROOT / "docs" / "policies.md").read_text()


def test_no_message_holds_a_secret() -> None:
    secret = resource("kubernetes:core/v1:Secret", stringData={"hf_api_token": TOKEN})
    keyed = deployment(container(image="r.example/i:1", args=[f"--api-key={TOKEN}"], env=[{"name": "VLLM_API_KEY", "value": TOKEN}]))
    found = [each for rule in RULES for each in ask(rule.name, [secret, service(), keyed])]
    assert any("VLLM_API_KEY" in str(each) for each in found)
    assert not any(TOKEN in str(each) for each in found)


# --- the configuration files, and what is written about them


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*.json")), ids=lambda path: path.stem)
def test_configuration_names_existing_rules_and_options(path: Any) -> None:
    for name, values in json.loads(path.read_text()).items():
        assert name in BY_NAME
        assert set(values) <= {"enforcementLevel", *BY_NAME[name].options}
        assert values.get("enforcementLevel", "mandatory") in ("mandatory", "advisory", "disabled")


def test_production_lowers_nothing() -> None:
    assert not [name for name, values in config_of("prod").items() if "enforcementLevel" in values]
