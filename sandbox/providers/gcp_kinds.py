"""What the stand-in gcp provider knows of each kind of resource: ids, names, computed outputs, and what cannot change in place.

Sources: the ForceNew marks and value lists of hashicorp/terraform-provider-google at e03b7622 (August 2026), which pulumi-gcp
bridges: google/services/container/node_config.go, resource_container_node_pool.go and resource_container_cluster.go,
google/services/compute/resource_compute_{network,subnetwork,router,router_nat,security_policy,region_security_policy}.go,
google/services/certificatemanager/, google/services/monitoring/,
resource_artifact_registry_repository.go and google/services/storage/resource_storage_bucket.go (at 0262be69; its less used blocks
from memory). Computed outputs are those that programs commonly use; what is left out stays unset. Left out: kinds that neither the
program nor its bootstrap makes, which are refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sandbox.providers.gcp_monitoring import alert_policy_problems, dashboard_problems, same_dashboard
from sandbox.providers.server import ProviderError

CLUSTER: Final = "gcp:container/cluster:Cluster"
NODE_POOL: Final = "gcp:container/nodePool:NodePool"
SERVICE: Final = "gcp:projects/service:Service"
BUCKET: Final = "gcp:storage/bucket:Bucket"

#: Stand in an id's pattern for what Google makes up, differently each time.
NEW_NUMBER: Final = "__number"
NEW_UUID: Final = "__uuid"
PROJECT_NUMBER: Final = "__projectNumber"

#: Makes a kind's computed outputs from its resolved properties (inputs, project, location) and its id.
Outputs = Callable[[Mapping[str, Any], str], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Kind:
    #: With the names of properties in braces, `project` and `location` (as configured, where not given) among them.
    id: str
    #: Wire paths without list indexes; `*` for every input. A path stands for what is below it as well.
    replaces: frozenset[str]
    outputs: Outputs
    #: The property that gets a name of Pulumi's making where the program gives none.
    auto_named: str | None = None
    max_name_length: int = 63
    #: Where it is when the program does not say, in place of the provider's own zone or region.
    location: str = ""
    #: Whether a successor waits for its end, whatever its name (`DeleteBeforeReplace` of its ResourceInfo in pulumi-gcp).
    goes_first: bool = False
    #: Whether making an existing one succeeds, as with a role that is already granted.
    idempotent: bool = False
    #: Property -> (pattern, what is said of a value that does not match).
    patterns: Mapping[str, tuple[str, str]] | None = None
    #: Wire path without list indexes -> the values that there are.
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What the API says against resolved properties, when they are to be created or updated.
    refusals: Callable[[Mapping[str, Any]], list[str]] | None = None
    #: Properties that are JSON in text, and whether the old text means what the new one does.
    json_properties: Mapping[str, Callable[[str, str], bool]] = field(default_factory=dict)


def _node_config() -> set[str]:
    """nodeConfig's; machine type, disk, image, labels, taints, tags and streaming change in place (GKE rolls the nodes)."""
    fields = (
        "advancedMachineFeatures", "bootDiskKmsKey", "confidentialNodes.confidentialInstanceType", "enableConfidentialStorage",
        "ephemeralStorageLocalSsdConfig", "flexStart", "guestAccelerators", "hostMaintenancePolicy", "localNvmeSsdBlockConfig",
        "localSsdCount", "localSsdEncryptionMode", "maxRunDuration", "metadata", "minCpuPlatform", "nodeGroup", "oauthScopes",
        "preemptible", "reservationAffinity", "sandboxConfig", "secondaryBootDisks", "serviceAccount",
        "shieldedInstanceConfig", "soleTenantConfig", "spot",
    )  # fmt: skip
    return {f"nodeConfig.{field}" for field in fields}


#: Values of nodeConfig's fields, of both kinds that have one.
_NODE_CONFIG_VALUES: Final = {
    "nodeConfig.guestAccelerators.gpuDriverInstallationConfig.gpuDriverVersion": (
        "GPU_DRIVER_VERSION_UNSPECIFIED", "INSTALLATION_DISABLED", "DEFAULT", "LATEST",
    ),
    "nodeConfig.loggingVariant": ("DEFAULT", "MAX_THROUGHPUT"),
    "nodeConfig.reservationAffinity.consumeReservationType": (
        "UNSPECIFIED", "NO_RESERVATION", "ANY_RESERVATION", "SPECIFIC_RESERVATION", "ANY_RESERVATION_THEN_FAIL",
    ),
    "nodeConfig.taints.effect": ("NO_SCHEDULE", "PREFER_NO_SCHEDULE", "NO_EXECUTE"),
    "nodeConfig.workloadMetadataConfig.mode": ("MODE_UNSPECIFIED", "GCE_METADATA", "GKE_METADATA"),
}  # fmt: skip


def _number(text: str, digits: int) -> str:
    """A number that is always the same for a text, as Google's ids of projects and accounts are."""
    return str(10 ** (digits - 1) + int(hashlib.sha256(text.encode()).hexdigest(), 16) % (9 * 10 ** (digits - 1)))


def project_number(project: str) -> str:
    return _number(project, 12)


def new_names(project: str | None) -> dict[str, str]:
    """What stands in an id's pattern besides properties."""
    return {
        NEW_NUMBER: str(10**18 + secrets.randbelow(9 * 10**18)),
        NEW_UUID: str(uuid.uuid4()),
        PROJECT_NUMBER: project_number(project) if project else "",
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _etag(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {"etag": hashlib.sha256(id.encode()).hexdigest()[:12]}


def _account(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    email = id.rpartition("/")[2]
    return {"email": email, "member": f"serviceAccount:{email}", "name": id, "uniqueId": "1" + _number(email, 20)}


def _repository(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    now = _now()
    host = f"{properties['location']}-{str(properties['format']).lower()}.pkg.dev"
    return {
        "name": properties["repositoryId"],
        "createTime": now,
        "updateTime": now,
        "registryUri": f"{host}/{properties['project']}/{properties['repositoryId']}",
        "effectiveLabels": properties.get("labels") or {},
        "pulumiLabels": properties.get("labels") or {},
        "mode": properties.get("mode") or "STANDARD_REPOSITORY",
        "vulnerabilityScanningConfig": _scanning(properties.get("vulnerabilityScanningConfig") or {}),
    }


def _scanning(config: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a repository is scanned: by default as the project is, whose scanning API is not looked up here."""
    enabled = config.get("enablementConfig") == "INHERITED"
    return {**config, "enablementState": "SCANNING_ACTIVE" if enabled else "SCANNING_DISABLED"}


def _bucket(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    now = _now()
    return {
        "projectNumber": int(project_number(str(properties["project"]))),
        "url": f"gs://{id}",
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{id}",
        "storageClass": properties.get("storageClass") or "STANDARD",
        "publicAccessPrevention": properties.get("publicAccessPrevention") or "inherited",
        "timeCreated": now,
        "updated": now,
        "effectiveLabels": properties.get("labels") or {},
        "pulumiLabels": properties.get("labels") or {},
    }


def _service(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {"disableOnDestroy": properties.get("disableOnDestroy", False)}


def _cluster(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Beside what the Cloud itself answers."""
    project = properties["project"]
    return {
        "deletionProtection": properties.get("deletionProtection", True),
        "labelFingerprint": hashlib.sha256(repr(properties.get("resourceLabels")).encode()).hexdigest()[:8],
        "network": properties.get("network") or f"projects/{project}/global/networks/default",
        "networkingMode": properties.get("networkingMode") or "VPC_NATIVE",
        "clusterIpv4Cidr": properties.get("clusterIpv4Cidr") or "10.88.0.0/16",
        "enableShieldedNodes": properties.get("enableShieldedNodes", True),
    }


def _node_pool(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {"maxPodsPerNode": properties.get("maxPodsPerNode", 110)}


def _self_link(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {"selfLink": f"https://www.googleapis.com/compute/v1/{id}", "fingerprint": hashlib.sha256(id.encode()).hexdigest()[:8]}


def _created(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    now = _now()
    return {"createTime": now, "updateTime": now}


def _dns_authorization(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Its record in the form of https://docs.cloud.google.com/certificate-manager/docs/dns-authorizations."""
    domain, token = properties["domain"], hashlib.sha256(id.encode()).hexdigest()
    prefix = f"_acme-challenge_{token[:13]}" if properties.get("type") == "PER_PROJECT_RECORD" else "_acme-challenge"
    data = f"{uuid.UUID(token[:32])}.{int(token[-2:], 16) % 20}.authorize.certificatemanager.goog."
    return {"dnsResourceRecords": [{"name": f"{prefix}.{domain}.", "type": "CNAME", "data": data}]}


def _certificate(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Active at once, but for a name below `.invalid`, whose DNS record can never be there (RFC 2606)."""
    managed = properties.get("managed") or {}
    if not any(each.endswith(".invalid") for each in managed.get("domains") or []):
        return {"managed": {**managed, "state": "ACTIVE"}} if managed else {}
    details = "The DNS record of the authorization was not found."
    issue = {"reason": "AUTHORIZATION_ISSUE", "details": details}
    return {"managed": {**managed, "state": "PROVISIONING", "provisioningIssues": [issue]}}


def _workload_identity(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Its name has the project's number where its id has the project's id."""
    project = properties["project"]
    name = id.replace(f"projects/{project}/", f"projects/{project_number(project)}/", 1)
    return {"name": name, "state": "ACTIVE"}


def _custom_role(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {"name": id, "deleted": False, "stage": properties.get("stage") or "GA"}


def _alert_policy(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Google names each condition below its policy."""
    return {
        "name": id,
        "enabled": properties.get("enabled", True),
        "conditions": [
            {**condition, "name": f"{id}/conditions/{_number(f'{id} {index}', 19)}"}
            for index, condition in enumerate(properties["conditions"])
        ],
        "creationRecords": [{"mutateTime": _now(), "mutatedBy": "you@example.com"}],
    }


def _dashboard(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {}


def _network(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    number = _number(id, 19)
    return {**_link(id), "networkId": number, "numericId": number, "mtu": properties.get("mtu") or 1460}


def _subnetwork(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    """The gateway is the second address of the primary range."""
    gateway = ipaddress.IPv4Network(properties["ipCidrRange"])[1]
    return {
        **_link(id),
        "subnetworkId": int(_number(id, 15)),
        "creationTimestamp": _now(),
        "gatewayAddress": str(gateway),
        "purpose": properties.get("purpose") or "PRIVATE",
        "stackType": properties.get("stackType") or "IPV4_ONLY",
    }


def _router(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {**_link(id), "creationTimestamp": _now()}


def _router_nat(properties: Mapping[str, Any], id: str) -> dict[str, Any]:
    dynamic = properties.get("enableDynamicPortAllocation", False)
    return {
        "autoNetworkTier": "PREMIUM",
        "endpointTypes": ["ENDPOINT_TYPE_VM"],
        "minPortsPerVm": properties.get("minPortsPerVm") or (32 if dynamic else 64),
        "type": properties.get("type") or "PUBLIC",
    }


def _link(id: str) -> dict[str, str]:
    return {"selfLink": f"https://www.googleapis.com/compute/v1/{id}"}


_NAME = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_NAME_RULE = "must begin with a letter, end with a letter or number, and can only contain lowercase letters, numbers and hyphens"

KINDS: Final[Mapping[str, Kind]] = {
    CLUSTER: Kind(
        id="projects/{project}/locations/{location}/clusters/{name}",
        auto_named="name",
        max_name_length=40,
        patterns={"name": (rf"(?=.{{1,40}}$){_NAME}", f"cannot be longer than 40 characters and {_NAME_RULE}")},
        outputs=_cluster,
        values={
            **_NODE_CONFIG_VALUES,
            "monitoringConfig.enableComponents": (
                "SYSTEM_COMPONENTS", "APISERVER", "SCHEDULER", "CONTROLLER_MANAGER", "STORAGE", "HPA", "POD", "DAEMONSET",
                "DEPLOYMENT", "STATEFULSET", "CADVISOR", "KUBELET", "DCGM", "JOBSET",
            ),
            "monitoringConfig.managedPrometheus.autoMonitoringConfig.scope": ("ALL", "NONE"),
            "binaryAuthorization.evaluationMode": ("DISABLED", "PROJECT_SINGLETON_POLICY_ENFORCE"),
            "databaseEncryption.state": ("ENCRYPTED", "DECRYPTED"),
            "datapathProvider": ("DATAPATH_PROVIDER_UNSPECIFIED", "LEGACY_DATAPATH", "ADVANCED_DATAPATH"),
            "networkingMode": ("VPC_NATIVE", "ROUTES"),
            "releaseChannel.channel": ("UNSPECIFIED", "RAPID", "REGULAR", "STABLE", "EXTENDED"),
        },
        replaces=frozenset(
            {
                "clusterAutoscaling.autoProvisioningDefaults.bootDiskKmsKey", "clusterIpv4Cidr", "confidentialNodes",
                "dataplaneOptimizationMode", "datapathProvider", "defaultMaxPodsPerNode", "description", "enableAutopilot",
                "enableKubernetesAlpha", "enableTpu", "initialNodeCount", "ipAllocationPolicy.clusterIpv4CidrBlock",
                "ipAllocationPolicy.clusterSecondaryRangeName", "ipAllocationPolicy.podCidrOverprovisionConfig",
                "ipAllocationPolicy.servicesIpv4CidrBlock", "ipAllocationPolicy.servicesSecondaryRangeName", "location",
                "masterAuth.clientCertificateConfig", "name", "network", "networkingMode", "nodePools",
                "privateClusterConfig.masterIpv4CidrBlock", "privateClusterConfig.privateEndpointSubnetwork", "project",
                "subnetwork", "userManagedKeysConfig.aggregationCa", "userManagedKeysConfig.clusterCa",
                "userManagedKeysConfig.etcdApiCa", "userManagedKeysConfig.etcdPeerCa",
            }
            | _node_config()
        ),
    ),
    NODE_POOL: Kind(
        id="projects/{project}/locations/{location}/clusters/{cluster}/nodePools/{name}",
        auto_named="name",
        max_name_length=40,
        outputs=_node_pool,
        values={
            **_NODE_CONFIG_VALUES,
            "autoscaling.locationPolicy": ("BALANCED", "ANY"),
            "upgradeSettings.strategy": ("SURGE", "BLUE_GREEN"),
        },
        replaces=frozenset(
            {
                "cluster", "initialNodeCount", "location", "maxPodsPerNode", "name", "namePrefix",
                "networkConfig.acceleratorNetworkProfile", "networkConfig.additionalNodeNetworkConfigs",
                "networkConfig.additionalPodNetworkConfigs", "networkConfig.createPodRange",
                "networkConfig.podCidrOverprovisionConfig", "networkConfig.podIpv4CidrBlock", "networkConfig.podRange",
                "networkConfig.subnetwork", "placementPolicy.policyName", "project", "queuedProvisioning",
            }
            | _node_config()
        ),
    ),
    "gcp:serviceaccount/account:Account": Kind(
        id="projects/{project}/serviceAccounts/{accountId}@{project}.iam.gserviceaccount.com",
        auto_named="accountId",
        max_name_length=30,
        patterns={
            "accountId": (
                r"[a-z](?:[-a-z0-9]{4,28}[a-z0-9])",
                'doesn\'t match regexp "^[a-z](?:[-a-z0-9]{4,28}[a-z0-9])$": 6 to 30 lowercase letters, numbers and hyphens',
            )
        },
        outputs=_account,
        replaces=frozenset({"accountId", "project"}),
    ),
    SERVICE: Kind(
        id="{project}/{service}",
        outputs=_service,
        idempotent=True,
        replaces=frozenset({"project", "service"}),
    ),
    "gcp:projects/iAMMember:IAMMember": Kind(
        id="{project}/{role}/{member}", outputs=_etag, idempotent=True, replaces=frozenset({"*"}), goes_first=True
    ),
    "gcp:serviceaccount/iAMMember:IAMMember": Kind(
        id="{serviceAccountId}/{role}/{member}", outputs=_etag, idempotent=True, replaces=frozenset({"*"})
    ),
    "gcp:monitoring/dashboard:Dashboard": Kind(
        id=f"projects/{{{PROJECT_NUMBER}}}/dashboards/{{{NEW_UUID}}}",
        outputs=_dashboard,
        replaces=frozenset({"project"}),
        refusals=dashboard_problems,
        json_properties={"dashboardJson": same_dashboard},
    ),
    "gcp:monitoring/alertPolicy:AlertPolicy": Kind(
        id=f"projects/{{project}}/alertPolicies/{{{NEW_NUMBER}}}",
        outputs=_alert_policy,
        replaces=frozenset({"project"}),
        refusals=alert_policy_problems,
        values={
            "alertStrategy.notificationPrompts": ("NOTIFICATION_PROMPT_UNSPECIFIED", "OPENED", "CLOSED"),
            "combiner": ("AND", "OR", "AND_WITH_MATCHING_RESOURCE"),
            "severity": ("CRITICAL", "ERROR", "WARNING"),
        },
    ),
    "gcp:artifactregistry/repository:Repository": Kind(
        id="projects/{project}/locations/{location}/repositories/{repositoryId}",
        outputs=_repository,
        values={
            "cleanupPolicies.action": ("DELETE", "KEEP"),
            "cleanupPolicies.condition.tagState": ("TAGGED", "UNTAGGED", "ANY"),
            "vulnerabilityScanningConfig.enablementConfig": ("INHERITED", "DISABLED"),
        },
        replaces=frozenset(
            {"project", "location", "repositoryId", "format", "mode", "kmsKeyName", "mavenConfig", "remoteRepositoryConfig"}
        ),
    ),
    "gcp:compute/network:Network": Kind(
        id="projects/{project}/global/networks/{name}",
        auto_named="name",
        patterns={"name": (rf"(?=.{{1,63}}$){_NAME}", _NAME_RULE)},
        outputs=_network,
        values={"routingMode": ("REGIONAL", "GLOBAL")},
        replaces=frozenset(
            {"autoCreateSubnetworks", "description", "internalIpv6Range", "name", "networkProfile", "params", "project"}
        ),
    ),
    "gcp:compute/subnetwork:Subnetwork": Kind(
        id="projects/{project}/regions/{region}/subnetworks/{name}",
        auto_named="name",
        patterns={"name": (rf"(?=.{{1,63}}$){_NAME}", _NAME_RULE)},
        outputs=_subnetwork,
        # A primary range that grows could stay; every change of it is taken to be a shorter one here.
        replaces=frozenset(
            {
                "description", "externalIpv6Prefix", "ipCidrRange", "ipCollection", "name", "network", "params", "project",
                "purpose", "region", "reservedInternalRange",
            }
        ),
    ),
    "gcp:compute/router:Router": Kind(
        id="projects/{project}/regions/{region}/routers/{name}",
        auto_named="name",
        patterns={"name": (rf"(?=.{{1,63}}$){_NAME}", _NAME_RULE)},
        outputs=_router,
        replaces=frozenset(
            {"encryptedInterconnectRouter", "name", "nccGateway", "network", "params", "project", "region"}
        ),
    ),
    "gcp:compute/routerNat:RouterNat": Kind(
        id="{project}/{region}/{router}/{name}",
        auto_named="name",
        patterns={"name": (rf"(?=.{{2,63}}$){_NAME}", _NAME_RULE)},
        outputs=_router_nat,
        values={
            "logConfig.filter": ("ERRORS_ONLY", "TRANSLATIONS_ONLY", "ALL"),
            "natIpAllocateOption": ("MANUAL_ONLY", "AUTO_ONLY"),
            "sourceSubnetworkIpRangesToNat": (
                "ALL_SUBNETWORKS_ALL_IP_RANGES", "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES", "LIST_OF_SUBNETWORKS",
            ),
        },
        replaces=frozenset({"endpointTypes", "initialNatIps", "name", "project", "region", "router", "type"}),
    ),
    "gcp:compute/securityPolicy:SecurityPolicy": Kind(
        id="projects/{project}/global/securityPolicies/{name}",
        auto_named="name",
        patterns={"name": (rf"(?=.{{1,63}}$){_NAME}", _NAME_RULE)},
        outputs=_self_link, replaces=frozenset({"name", "project", "type"}),
    ),
    "gcp:compute/regionSecurityPolicy:RegionSecurityPolicy": Kind(
        id="projects/{project}/regions/{region}/securityPolicies/{name}",
        auto_named="name",
        patterns={"name": (rf"(?=.{{1,63}}$){_NAME}", _NAME_RULE)},
        outputs=_self_link, replaces=frozenset({"name", "project", "region", "type"}),
    ),
    "gcp:certificatemanager/dnsAuthorization:DnsAuthorization": Kind(
        id="projects/{project}/locations/{location}/dnsAuthorizations/{name}",
        location="global", outputs=_dns_authorization,
        values={"type": ("FIXED_RECORD", "PER_PROJECT_RECORD")},
        replaces=frozenset({"name", "project", "location", "domain", "type"}),
    ),
    "gcp:certificatemanager/certificate:Certificate": Kind(
        id="projects/{project}/locations/{location}/certificates/{name}",
        location="global", outputs=_certificate,
        values={"scope": ("DEFAULT", "EDGE_CACHE", "ALL_REGIONS", "CLIENT_AUTH")},
        replaces=frozenset({"name", "project", "location", "scope", "managed"}),
    ),
    "gcp:certificatemanager/certificateMap:CertificateMap": Kind(
        id="projects/{project}/locations/global/certificateMaps/{name}",
        outputs=_created, replaces=frozenset({"name", "project"}),
    ),
    "gcp:certificatemanager/certificateMapEntry:CertificateMapEntry": Kind(
        id="projects/{project}/locations/global/certificateMaps/{map}/certificateMapEntries/{name}",
        outputs=_created, replaces=frozenset({"name", "project", "map", "hostname", "matcher"}),
    ),
    BUCKET: Kind(
        # Its name is one of all of Google Cloud's.
        id="{name}",
        auto_named="name",
        patterns={
            "name": (
                r"(?=.{3,63}$)[a-z0-9][a-z0-9._-]*[a-z0-9]",
                "must be 3 to 63 lowercase letters, numbers, hyphens, underscores and dots, a letter or number first and last",
            )
        },
        outputs=_bucket,
        values={"publicAccessPrevention": ("inherited", "enforced")},
        replaces=frozenset(
            {"name", "project", "location", "customPlacementConfig", "enableObjectRetention", "hierarchicalNamespace"}
        ),
    ),
    "gcp:storage/bucketIAMMember:BucketIAMMember": Kind(
        id="b/{bucket}/{role}/{member}", outputs=_etag, idempotent=True, replaces=frozenset({"*"})
    ),
    "gcp:secretmanager/secretIamMember:SecretIamMember": Kind(
        id="projects/{project}/secrets/{secretId}/{role}/{member}", outputs=_etag, idempotent=True, replaces=frozenset({"*"})
    ),
    "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember": Kind(
        id="{cryptoKeyId}/{role}/{member}", outputs=_etag, idempotent=True, replaces=frozenset({"*"})
    ),
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember": Kind(
        id="projects/{project}/locations/{location}/repositories/{repository}/{role}/{member}",
        outputs=_etag,
        idempotent=True,
        replaces=frozenset({"*"}),
    ),
    # Those of bootstrap/: ids as the SDK's sections on import give them.
    "gcp:kms/keyRing:KeyRing": Kind(
        id="projects/{project}/locations/{location}/keyRings/{name}",
        outputs=lambda properties, id: {}, replaces=frozenset({"*"}),
    ),
    "gcp:kms/cryptoKey:CryptoKey": Kind(
        id="{keyRing}/cryptoKeys/{name}", outputs=lambda properties, id: {"purpose": "ENCRYPT_DECRYPT"},
        replaces=frozenset({"keyRing", "name", "purpose", "importOnly", "destroyScheduledDuration"}),
    ),
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": Kind(
        id="projects/{project}/locations/global/workloadIdentityPools/{workloadIdentityPoolId}",
        patterns={"workloadIdentityPoolId": (r"[a-z0-9-]{4,32}", "must be 4 to 32 lowercase letters, digits and hyphens")},
        outputs=_workload_identity, replaces=frozenset({"project", "workloadIdentityPoolId"}),
    ),
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": Kind(
        id=(
            "projects/{project}/locations/global/workloadIdentityPools/{workloadIdentityPoolId}"
            "/providers/{workloadIdentityPoolProviderId}"
        ),
        patterns={
            "workloadIdentityPoolProviderId": (r"[a-z0-9-]{4,32}", "must be 4 to 32 lowercase letters, digits and hyphens")
        },
        outputs=_workload_identity,
        replaces=frozenset({"project", "workloadIdentityPoolId", "workloadIdentityPoolProviderId"}),
    ),
    "gcp:projects/iAMCustomRole:IAMCustomRole": Kind(
        id="projects/{project}/roles/{roleId}",
        patterns={"roleId": (r"[a-zA-Z0-9_.]{3,64}", "must be 3 to 64 letters, digits, underscores and full stops")},
        outputs=_custom_role, replaces=frozenset({"project", "roleId"}),
    ),
}  # fmt: skip


def kind_of(type_token: str) -> Kind:
    """A kind's entry. Raises `ProviderError`."""
    if type_token not in KINDS:
        raise ProviderError(
            f"{type_token} is not among the kinds of the sandbox's Google Cloud (sandbox/providers/gcp_kinds.py): leave it out of the "
            "sandbox's stack, or add an entry with what the provider's documentation says of its id and its replacements"
        )
    return KINDS[type_token]
