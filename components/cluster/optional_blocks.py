"""Every optional part of the Google resources that this program makes: which setting adds it, and how it is switched off again.

pulumi-gcp drops a removed field from a request only if its schema does not compute the field. A computed field keeps its value, without
a difference in the preview, so the program sets the value that means off. The provider's schema says which fields are computed
(`sandbox/providers/computed_fields.json`). Left out: names, places and references, which are never optional here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

CLUSTER: Final = "gcp:container/cluster:Cluster"
NODE_POOL: Final = "gcp:container/nodePool:NodePool"
REPOSITORY: Final = "gcp:artifactregistry/repository:Repository"
ALERT_POLICY: Final = "gcp:monitoring/alertPolicy:AlertPolicy"


@dataclass(frozen=True)
class OptionalBlock:
    setting: str
    #: A value that differs from the default.
    on: Any
    resource: str
    #: The property's path on the wire.
    field: str
    #: Whether the provider keeps the property if the program leaves it out.
    computed: bool
    #: The program's value if the setting is off; None if it sets none and the provider removes the property.
    off: Any
    #: Whether the change replaces the resource.
    replaces: bool = False


_WINDOW = {"startTime": "2026-01-03T15:00:00Z", "endTime": "2026-01-03T19:00:00Z", "recurrence": "FREQ=DAILY"}
_KEY = "projects/p/locations/asia-northeast1/keyRings/r/cryptoKeys/k"
_NETWORK = {"nodeRange": "10.64.0.0/22", "podRange": "10.65.0.0/17", "serviceRange": "10.64.16.0/20"}
_L4 = {"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 2}
_DISK_IMAGE = "global/images/preloaded"

OPTIONAL_BLOCKS: Final[tuple[OptionalBlock, ...]] = (
    OptionalBlock("controlPlaneEndpoint", "dns", CLUSTER, "controlPlaneEndpointsConfig.dnsEndpointConfig", True,
                  {"allowExternalTraffic": False}),
    OptionalBlock("controlPlaneEndpoint", "dns", CLUSTER, "controlPlaneEndpointsConfig.ipEndpointsConfig", True, {"enabled": True}),
    # Not computed by itself, but below a block that is; Google sets it to true while the addresses are off.
    OptionalBlock("controlPlaneEndpoint", "dns", CLUSTER, "privateClusterConfig.enablePrivateEndpoint", False, False),
    OptionalBlock("controlPlaneSourceRanges", ["203.0.113.0/24"], CLUSTER, "masterAuthorizedNetworksConfig", True,
                  {"cidrBlocks": [{"cidrBlock": "0.0.0.0/0"}], "gcpPublicCidrsAccessEnabled": True}),
    OptionalBlock("binaryAuthorization", True, CLUSTER, "binaryAuthorization", True, {"evaluationMode": "DISABLED"}),
    OptionalBlock("secretsEncryptionKey", _KEY, CLUSTER, "databaseEncryption", True, {"state": "DECRYPTED"}),
    OptionalBlock("costAllocation", True, CLUSTER, "costManagementConfig", True, {"enabled": False}),
    OptionalBlock("weightsCache", True, CLUSTER, "addonsConfig.gcsFuseCsiDriverConfig", True, {"enabled": False}),
    OptionalBlock("networkPolicy", True, CLUSTER, "datapathProvider", True, "LEGACY_DATAPATH", replaces=True),
    OptionalBlock("network", _NETWORK, CLUSTER, "network", False, None, replaces=True),
    OptionalBlock("network", _NETWORK, CLUSTER, "privateClusterConfig", True,
                  {"enablePrivateNodes": False, "enablePrivateEndpoint": False}),
    OptionalBlock("network", _NETWORK, NODE_POOL, "networkConfig.enablePrivateNodes", True, False),
    OptionalBlock("maintenanceWindow", _WINDOW, CLUSTER, "maintenancePolicy", False, None),
    OptionalBlock("labels", {"team": "a"}, CLUSTER, "resourceLabels", False, None),
    OptionalBlock("labels", {"team": "a"}, NODE_POOL, "nodeConfig.resourceLabels", False, None),
    OptionalBlock("labels", {"team": "a"}, REPOSITORY, "labels", False, None),
    OptionalBlock("vulnerabilityScanning", True, REPOSITORY, "vulnerabilityScanningConfig", True, {"enablementConfig": "DISABLED"}),
    OptionalBlock("imageRetentionDays", 30, REPOSITORY, "cleanupPolicies", False, None),
    OptionalBlock("notificationChannels", ["projects/my-project/notificationChannels/1"], ALERT_POLICY, "notificationChannels", False, []),
    OptionalBlock("acceleratorPools", [{**_L4, "diskSizeGb": 200}], NODE_POOL, "nodeConfig.diskSizeGb", True, 100),
    OptionalBlock("acceleratorPools", [{**_L4, "provisioning": "spot"}], NODE_POOL, "nodeConfig.spot", False, None, replaces=True),
    OptionalBlock("acceleratorPools", [{**_L4, "provisioning": "preemptible"}], NODE_POOL, "nodeConfig.preemptible", False, None,
                  replaces=True),
    OptionalBlock("acceleratorPools", [{**_L4, "secondaryBootDiskImage": _DISK_IMAGE}], NODE_POOL, "nodeConfig.secondaryBootDisks", False,
                  None, replaces=True),
)  # fmt: skip
