"""Google's side of the sandbox: clusters and node pools that become control planes and nodes on this machine.

The stand-in gcp provider calls this with a resource's own inputs (camelCase). Everything else that a stack makes in
Google Cloud (service accounts, IAM, repositories) has no effect here and is a record of the provider's.
"""

from __future__ import annotations

import base64
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sandbox.control_plane.control_plane import ControlPlaneError
from sandbox.gke.load_balancer import Frontends
from sandbox.gke.local_cluster import LocalCluster
from sandbox.google.access_tokens import AccessTokens
from sandbox.google.faults import FaultStore
from sandbox.google.latencies import Clock
from sandbox.google.machine_types import UnknownMachineTypeError, size_of
from sandbox.google.operations import Operations
from sandbox.google.records import Records
from sandbox.google.stock import OutOfStockError, Stock
from sandbox.host import ca_bundle
from sandbox.host.addresses import PodAddresses
from sandbox.host.certificates import gateway_authority
from sandbox.host.paths import Paths
from sandbox.host.processes import Spawner
from sandbox.host.state_files import read_object, unusable, write_object
from sandbox.images.image_store import ImageStore
from sandbox.toolchain.tools import Toolbox, ToolError

logger = logging.getLogger(__name__)

#: Zones of a region; asia-northeast1's are a, b and c, and most regions name theirs so. Unverified for the others.
_ZONE_LETTERS = {"us-east1": "bcd", "europe-west1": "bcd"}


_CLUSTER_FILE = "cluster.json"


class CloudError(Exception):
    """What Google's API would refuse, in its words."""


class PoolInErrorStateError(CloudError):
    """A node pool is there, RUNNING_WITH_ERROR, since Google had no machines for it; `facts` are the pool's."""

    def __init__(self, status_message: str, facts: dict[str, Any]) -> None:
        super().__init__(status_message)
        self.facts = facts


class Cloud:
    """Every method blocks until Google's operation would be done, and may be called from any thread."""

    def __init__(self, *, paths: Paths, spawner: Spawner, images: ImageStore, environment: Mapping[str, str], clock: Clock) -> None:
        self._paths = paths
        self._spawner = spawner
        self._images = images
        self._environment = dict(environment)
        self._clock = clock
        self._pod_addresses = PodAddresses()
        self._frontends = Frontends()
        self._access_tokens = AccessTokens(paths.state)
        self._clusters: dict[str, LocalCluster] = {}
        self._lock = threading.RLock()
        self._operations = Operations()

    # --- life

    def recover(self) -> None:
        """Takes up the clusters that an earlier daemon left on disk."""
        self._access_tokens.prepare()
        for folder in sorted(self._paths.state.glob("clusters/*")):
            record = folder / _CLUSTER_FILE
            if not record.exists():
                # It was being made or deleted, and was never reported as made.
                logger.info("clears away what is left of a cluster in %s", folder)
                shutil.rmtree(folder)
                continue
            known = read_object(record)
            if not isinstance(known.get("id"), str) or not isinstance(known.get("inputs"), dict):
                raise unusable(record, "it names no cluster")
            logger.info("recovers cluster %s", known["id"])
            self._bring_up(known["id"], known["inputs"])

    def stop(self) -> None:
        with self._lock:
            clusters, self._clusters = list(self._clusters.values()), {}
        for cluster in clusters:
            cluster.stop()

    def ended(self) -> str | None:
        """A program of a cluster that ended without a request."""
        with self._lock:
            clusters = list(self._clusters.values())
        return next((ended for cluster in clusters if (ended := cluster.control_plane.ended())), None)

    def restart_api_servers(self, away_seconds: float) -> None:
        """As `ControlPlane.restart_api_server`, one after the other."""
        with self._lock:
            clusters = list(self._clusters.values())
        for cluster in clusters:
            cluster.control_plane.restart_api_server(away_seconds)

    # --- clusters

    def create_cluster(self, cluster_id: str, inputs: dict[str, Any]) -> dict[str, Any]:
        with ExitStack() as operation:
            with self._lock:
                # One on its way exists as well, with the status PROVISIONING.
                if cluster_id in self._clusters or self._operations.runs(cluster_id):
                    raise CloudError(f"googleapi: Error 409: Already exists: {cluster_id}., alreadyExists")
                operation.enter_context(self._operations.running(cluster_id))
            steps = ["cluster_create"]
            if inputs.get("removeDefaultNodePool"):
                # The real provider has the pool deleted before it says that the cluster is there:
                # https://github.com/hashicorp/terraform-provider-google, resource_container_cluster.go, "removing default node pool".
                steps.append("node_pool_delete")
            with self._clock.during(*steps):
                cluster = self._bring_up(cluster_id, inputs)
            try:
                # Last: one that a crash cut short has never been there.
                self._write_record(cluster_id, inputs)
            except OSError:
                cluster.stop()
                self._forget(cluster_id)
                raise
            return self._facts(cluster_id, cluster)

    def update_cluster(self, cluster_id: str, inputs: dict[str, Any]) -> dict[str, Any]:
        with self._operations.running(cluster_id):
            cluster = self._cluster(cluster_id)
            self._write_record(cluster_id, inputs)
            self._configure(cluster, inputs)
            return self._facts(cluster_id, cluster)

    def read_cluster(self, cluster_id: str) -> dict[str, Any] | None:
        with self._lock:
            cluster = self._clusters.get(cluster_id)
        return self._facts(cluster_id, cluster) if cluster else None

    def delete_cluster(self, cluster_id: str) -> None:
        """Takes the cluster away with its pools, its pods and all its objects."""
        with self._operations.running(cluster_id, below=True):
            cluster = self._cluster(cluster_id)
            self._clock.sleep("cluster_delete")
            cluster.stop()
            self._forget(cluster_id)

    def _forget(self, cluster_id: str) -> None:
        with self._lock:
            del self._clusters[cluster_id]
            (self._cluster_dir(cluster_id) / _CLUSTER_FILE).unlink(missing_ok=True)
            shutil.rmtree(self._cluster_dir(cluster_id))
            self._link_kubeconfig()

    def settle_cluster(self, cluster_id: str) -> dict[str, Any] | None:
        """Waits until no operation runs on it; what it was made of, None when there is none."""
        self._operations.wait(cluster_id)
        with self._lock:
            if cluster_id not in self._clusters:
                return None
            record = read_object(self._cluster_dir(cluster_id) / _CLUSTER_FILE)
        return dict(record["inputs"])

    # --- node pools

    def create_node_pool(self, cluster_id: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        # A pool that is asked for meanwhile waits.
        self._operations.wait(cluster_id)
        cluster = self._cluster(cluster_id)
        machine_type = (inputs.get("nodeConfig") or {}).get("machineType") or "e2-medium"
        try:
            size_of(machine_type)
        except UnknownMachineTypeError:
            raise CloudError(
                f"googleapi: Error 400: machine type {machine_type!r} is not one that the sandbox knows the size of; "
                "components/catalog/machines.py lists them., badRequest"
            ) from None
        with ExitStack() as operation:
            with self._lock:
                pool_id = _pool_id(cluster_id, name)
                if name in cluster.node_pools.by_name or self._operations.runs(pool_id):
                    raise CloudError(f"googleapi: Error 409: Already exists: {pool_id}., alreadyExists")
                operation.enter_context(self._operations.running(pool_id))
            try:
                cluster.node_pools.create(name, inputs)
            except OutOfStockError as error:
                raise PoolInErrorStateError(str(error), self._pool_facts(cluster, cluster_id, name)) from error
            return self._pool_facts(cluster, cluster_id, name)

    def update_node_pool(self, cluster_id: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        with self._operations.running(_pool_id(cluster_id, name)):
            cluster = self._cluster_with_pool(cluster_id, name)
            try:
                cluster.node_pools.update(name, inputs)
            except OutOfStockError as error:
                raise CloudError(f"Error waiting for updating GKE node pool: {error}") from error
            return self._pool_facts(cluster, cluster_id, name)

    def read_node_pool(self, cluster_id: str, name: str) -> dict[str, Any] | None:
        with self._lock:
            cluster = self._clusters.get(cluster_id)
        if cluster is None or name not in cluster.node_pools.by_name:
            return None
        return self._pool_facts(cluster, cluster_id, name)

    def delete_node_pool(self, cluster_id: str, name: str) -> None:
        with self._operations.running(_pool_id(cluster_id, name)):
            self._cluster_with_pool(cluster_id, name).node_pools.delete(name)

    def settle_node_pool(self, cluster_id: str, name: str) -> dict[str, Any] | None:
        """As `settle_cluster`, of a node pool."""
        self._operations.wait(cluster_id)
        self._operations.wait(_pool_id(cluster_id, name))
        with self._lock:
            cluster = self._clusters.get(cluster_id)
        pool = cluster.node_pools.by_name.get(name) if cluster else None
        return dict(pool.inputs) if pool else None

    # --- small parts

    def _bring_up(self, cluster_id: str, inputs: dict[str, Any]) -> LocalCluster:
        _, project, _, location, _, name = cluster_id.split("/")
        cluster = LocalCluster(
            name=name,
            project=project,
            location=location,
            zones=list(inputs.get("nodeLocations") or _zones_of(location)),
            state_dir=self._cluster_dir(cluster_id),
            tools=self._paths.tools,
            token=self._token(),
            environment=self._environment,
            spawner=self._spawner,
            images=self._images,
            pod_addresses=self._pod_addresses,
            frontends=self._frontends,
            clock=self._clock,
            stock=Stock(self._paths.stock),
            ensure_tools=Toolbox(self._paths, _log_progress).ensure,
            access_tokens=self._access_tokens,
            faults=FaultStore(self._paths.state),
            records=Records(self._paths.state / "cloud.json"),
            network=inputs.get("network") or "default",
        )
        try:
            cluster.start()
            self._configure(cluster, inputs)
        except BaseException:
            cluster.stop()
            raise
        with self._lock:
            self._clusters[cluster_id] = cluster
            self._link_kubeconfig()
        return cluster

    def _configure(self, cluster: LocalCluster, inputs: Mapping[str, Any]) -> None:
        """What an update changes in place, and the trust of clients that are given no certificate for it: DNS endpoint and gateways."""
        gateway = (inputs.get("gatewayApiConfig") or {}).get("channel") == "CHANNEL_STANDARD"
        try:
            cluster.set_gateway_api(gateway)
        except (ToolError, ControlPlaneError) as error:
            raise CloudError(str(error)) from error
        endpoint = (inputs.get("controlPlaneEndpointsConfig") or {}).get("dnsEndpointConfig") or {}
        trusted = [cluster.control_plane.certificates.ca] if endpoint.get("allowExternalTraffic") else []
        trusted += [gateway_authority(cluster.state_dir / "gateway")] if gateway else []
        if not trusted:
            return
        with self._lock:
            ca_bundle.make_bundle(self._paths.trust, self._environment)
            for authority in trusted:
                ca_bundle.add_authority(self._paths.trust, authority)
        # The stand-in kubernetes provider runs in this very process.
        os.environ[ca_bundle.VARIABLE] = str(self._paths.trust)

    def _cluster(self, cluster_id: str) -> LocalCluster:
        with self._lock:
            if cluster_id not in self._clusters:
                raise CloudError(f"googleapi: Error 404: Not found: {cluster_id}., notFound")
            return self._clusters[cluster_id]

    def _cluster_with_pool(self, cluster_id: str, name: str) -> LocalCluster:
        cluster = self._cluster(cluster_id)
        if name not in cluster.node_pools.by_name:
            raise CloudError(f"googleapi: Error 404: Not found: {cluster_id}/nodePools/{name}., notFound")
        return cluster

    def _facts(self, cluster_id: str, cluster: LocalCluster) -> dict[str, Any]:
        certificate = base64.b64encode(cluster.control_plane.certificates.ca.read_bytes()).decode()
        return {
            "endpoint": cluster.control_plane.public_endpoint,
            # GKE's is gke-ID.LOCATION.gke.goog, which here would lead to Google.
            "controlPlaneEndpointsConfig": {"dnsEndpointConfig": {"endpoint": f"localhost:{cluster.control_plane.ports.front}"}},
            "masterVersion": cluster.node_pools.version,
            "masterAuth": {"clusterCaCertificate": certificate, "clientCertificate": "", "clientKey": ""},
            "selfLink": f"https://container.googleapis.com/v1/{cluster_id}",
        }

    def _pool_facts(self, cluster: LocalCluster, cluster_id: str, name: str) -> dict[str, Any]:
        pool = cluster.node_pools.by_name[name]
        _, project, _, _, _, cluster_name = cluster_id.split("/")
        return {
            "nodeCount": len(pool.nodes) // max(len(pool.zones), 1),
            "nodeLocations": pool.zones,
            "version": cluster.node_pools.version,
            "instanceGroupUrls": [
                f"https://www.googleapis.com/compute/v1/projects/{project}/zones/{zone}/instanceGroupManagers/gke-{cluster_name}-{name}-grp"
                for zone in pool.zones
            ],
        }

    def _cluster_dir(self, cluster_id: str) -> Path:
        return self._paths.state / "clusters" / cluster_id.replace("/", "_")

    def _write_record(self, cluster_id: str, inputs: dict[str, Any]) -> None:
        folder = self._cluster_dir(cluster_id)
        folder.mkdir(parents=True, exist_ok=True)
        write_object(folder / _CLUSTER_FILE, {"id": cluster_id, "inputs": inputs})

    def _link_kubeconfig(self) -> None:
        """`state/kubeconfig` and `state/own-kubeconfig` are the newest cluster's."""
        for link in (self._paths.kubeconfig, self._paths.own_kubeconfig):
            link.unlink(missing_ok=True)
        if self._clusters:
            newest = list(self._clusters.values())[-1].control_plane
            self._paths.own_kubeconfig.symlink_to(newest.kubeconfig)
            self._paths.kubeconfig.symlink_to(newest.public_kubeconfig)

    def _token(self) -> str:
        """The administrator's bearer token: one for the whole sandbox, as one Google account is for all clusters."""
        with self._lock:
            if not self._paths.token.exists():
                self._paths.token.touch(mode=0o600)
                self._paths.token.write_text(secrets.token_urlsafe(32))
            return self._paths.token.read_text()


def _log_progress(text: str, fraction: float | None) -> None:
    # A line when something begins, and none for each of the thousand packages of a build.
    if not fraction:
        logger.info("%s", text)


def _pool_id(cluster_id: str, name: str) -> str:
    return f"{cluster_id}/nodePools/{name}"


def _zones_of(location: str) -> list[str]:
    """A zonal cluster's one zone, or three zones of a regional one's region."""
    if location.count("-") == 2:
        return [location]
    return [f"{location}-{letter}" for letter in _ZONE_LETTERS.get(location, "abc")]
