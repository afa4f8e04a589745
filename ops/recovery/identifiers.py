"""What the provider's importer calls a resource of which only the inputs are known.

Sources: the importers of hashicorp/terraform-provider-google, which pulumi-gcp bridges (a binding of IAM has spaces between its
parts: `iamMemberImport` in google/tpgiamresource/resource_iam_member.go), and of pulumi-kubernetes (`parseFqName`). Left
out: what Google numbers itself (`recovery.monitoring`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

CLUSTER = "gcp:container/cluster:Cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"

#: Type -> import id, with the names of inputs in braces.
IMPORT_IDS: Mapping[str, str] = MappingProxyType(
    {
        CLUSTER: "projects/{project}/locations/{location}/clusters/{name}",
        NODE_POOL: "projects/{project}/locations/{location}/clusters/{cluster}/nodePools/{name}",
        "gcp:artifactregistry/repository:Repository": "projects/{project}/locations/{location}/repositories/{repositoryId}",
        "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember": (
            "projects/{project}/locations/{location}/repositories/{repository} {role} {member}"
        ),
        "gcp:compute/network:Network": "projects/{project}/global/networks/{name}",
        "gcp:compute/router:Router": "projects/{project}/regions/{region}/routers/{name}",
        "gcp:compute/routerNat:RouterNat": "{project}/{region}/{router}/{name}",
        "gcp:compute/subnetwork:Subnetwork": "projects/{project}/regions/{region}/subnetworks/{name}",
        "gcp:projects/iAMMember:IAMMember": "{project} {role} {member}",
        "gcp:projects/service:Service": "{project}/{service}",
        "gcp:serviceaccount/account:Account": ("projects/{project}/serviceAccounts/{accountId}@{project}.iam.gserviceaccount.com"),
        "gcp:storage/bucket:Bucket": "{name}",
        "gcp:storage/bucketIAMMember:BucketIAMMember": "b/{bucket} {role} {member}",
    }
)

#: Made again without harm: the same content has the same digest.
REPEATABLE = frozenset({"docker:index/image:Image"})

#: The importers of these wait until Google has finished what it is doing (`containerClusterAwaitRestingState`).
WAITED_FOR = frozenset({CLUSTER, NODE_POOL})

#: The provider's own properties, of which Google knows nothing: an importer can only guess them.
PROVIDER_S_OWN: Mapping[str, tuple[str, ...]] = MappingProxyType({CLUSTER: ("deletionProtection",)})


def import_id(type_token: str, inputs: Mapping[str, Any], defaults: Mapping[str, Any]) -> str | None:
    """None where the type is not known, or an input that it takes is not. `defaults`: the provider's project and region."""
    if type_token.startswith("kubernetes:"):
        return _object_id(inputs)
    pattern = IMPORT_IDS.get(type_token)
    if pattern is None:
        return None
    location = defaults.get("zone") or defaults.get("region")
    values = {**{"location": location}, **defaults, **{key: each for key, each in inputs.items() if each}}
    names = re.findall(r"\{(\w+)\}", pattern)
    if not all(isinstance(values.get(name), str) for name in names):
        return None
    # A program may name a cluster or a router by its whole path.
    short = {"cluster", "router"} & set(names)
    parts = {name: values[name].rpartition("/")[2] if name in short else values[name] for name in names}
    if type_token.endswith(":RepositoryIamMember"):
        parts["repository"] = parts["repository"].rpartition("/")[2]
    return re.sub(r"\{(\w+)\}", lambda found: str(parts[found[1]]), pattern)


def _object_id(inputs: Mapping[str, Any]) -> str | None:
    metadata = inputs.get("metadata")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        return None
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
