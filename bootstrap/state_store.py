"""Where the stacks' state lives: one versioned bucket, and one key for each environment, which encrypts the secrets in its state.

There is one bucket for all environments, since a stack can read another's outputs (`imagesFrom`) only in its own backend. Every account
may read all of it and write only its own environment's objects; the secrets in it are decrypted with the environment's own key.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
from pulumi_gcp import kms, storage

from bootstrap.settings import BootstrapSettings
from components.cluster.project_services import enable_apis

#: How many versions of a state are kept, and for how long at least.
_KEPT_VERSIONS = 50
_KEPT_DAYS = 90

#: The program whose stacks the pipelines deploy; part of the names of its state's objects.
PROGRAM = "tpu-gpu-fungibility"


def state_prefixes(environment: str) -> tuple[str, ...]:
    """Prefixes of the names of the objects that an update of a stack writes.

    pkg/backend/diy/store.go and lock.go of pulumi 3.250; the organisation of such a backend is `organization`.
    """
    return (
        f".pulumi/stacks/{PROGRAM}/{environment}.",
        f".pulumi/history/{PROGRAM}/{environment}/",
        f".pulumi/backups/{PROGRAM}/{environment}/",
        f".pulumi/locks/organization/{PROGRAM}/{environment}/",
    )


def write_condition(bucket: str, environment: str) -> str:
    """Which objects an environment's deploying account may write, in CEL."""
    return " || ".join(
        f"resource.name.startsWith('projects/_/buckets/{bucket}/objects/{prefix}')" for prefix in state_prefixes(environment)
    )


class StateStore(pulumi.ComponentResource):
    """The bucket and the keys."""

    #: Name of the bucket.
    bucket: pulumi.Output[str]
    #: Environment -> `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    keys: Mapping[str, pulumi.Output[str]]

    def __init__(self, name: str, settings: BootstrapSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("fungibility:bootstrap:StateStore", name, None, opts)
        apis = enable_apis(name, ["storage", "cloudkms"], project=settings.project, parent=self)
        bucket = storage.Bucket(
            name,
            project=settings.project,
            name=settings.state_bucket,
            location=settings.location,
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            # A broken or deleted state can be restored.
            versioning={"enabled": True},
            lifecycle_rules=[
                {
                    "action": {"type": "Delete"},
                    "condition": {"num_newer_versions": _KEPT_VERSIONS, "days_since_noncurrent_time": _KEPT_DAYS, "with_state": "ARCHIVED"},
                }
            ],
            # Without a stack's state its resources are no longer managed.
            opts=pulumi.ResourceOptions(parent=self, depends_on=apis, protect=True),
        )
        ring = kms.KeyRing(
            name,
            project=settings.project,
            location=settings.location,
            name="pulumi",
            # Explicit, since no output depends on an API being on.
            opts=pulumi.ResourceOptions(parent=self, depends_on=apis),
        )
        self.keys = {
            environment: kms.CryptoKey(
                f"{name}-{environment}",
                key_ring=ring.id,
                name=environment,
                # 90 days. Older versions keep decrypting what they encrypted.
                rotation_period="7776000s",
                # Without its key a stack's secrets are lost.
                opts=pulumi.ResourceOptions(parent=self, protect=True),
            ).id
            for environment in settings.environment_names
        }
        self.bucket = bucket.name
        self.register_outputs({"bucket": self.bucket, "keys": dict(self.keys)})
