"""The stand-in gcp provider over a real channel, with a cloud of dictionaries behind it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from sandbox.gke.cloud import Cloud, CloudError
from sandbox.google.records import Records
from sandbox.google.secret_manager import SecretStore
from sandbox.providers.gcp import GcpProvider
from sandbox.providers.gcp_kinds import BUCKET, CLUSTER, NODE_POOL, SERVICE, project_number
from sandbox.providers.wire import UNKNOWN, Secret
from tests.unit.provider_client import Client, Engine, urn

ACCOUNT = "gcp:serviceaccount/account:Account"
REPOSITORY = "gcp:artifactregistry/repository:Repository"
ROLE = "gcp:projects/iAMMember:IAMMember"
NETWORK = "gcp:compute/network:Network"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"
ROUTER = "gcp:compute/router:Router"
NAT = "gcp:compute/routerNat:RouterNat"

CLUSTER_ID = "projects/p/locations/asia-northeast1/clusters/c"


class DictionaryCloud(Cloud):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.clusters: dict[str, dict[str, Any]] = {}
        self.pools: dict[tuple[str, str], dict[str, Any]] = {}

    def create_cluster(self, cluster_id: str, inputs: dict[str, Any]) -> dict[str, Any]:
        if cluster_id in self.clusters:
            raise CloudError(f"googleapi: Error 409: Already exists: {cluster_id}., alreadyExists")
        return self.update_cluster(cluster_id, inputs)

    def read_cluster(self, cluster_id: str) -> dict[str, Any] | None:
        return self.cluster_facts() if cluster_id in self.clusters else None

    def update_cluster(self, cluster_id: str, inputs: dict[str, Any]) -> dict[str, Any]:
        self.clusters[cluster_id] = inputs
        return self.cluster_facts()

    def delete_cluster(self, cluster_id: str) -> None:
        if self.clusters.pop(cluster_id, None) is None:
            raise CloudError(f"googleapi: Error 404: Not found: {cluster_id}., notFound")

    def create_node_pool(self, cluster_id: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        if cluster_id not in self.clusters:
            raise CloudError(f"googleapi: Error 404: Not found: {cluster_id}., notFound")
        return self.update_node_pool(cluster_id, name, inputs)

    def read_node_pool(self, cluster_id: str, name: str) -> dict[str, Any] | None:
        return {"nodeCount": 7} if (cluster_id, name) in self.pools else None

    def update_node_pool(self, cluster_id: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
        self.pools[cluster_id, name] = inputs
        return {"nodeCount": 1, "version": "v1"}

    def delete_node_pool(self, cluster_id: str, name: str) -> None:
        if self.pools.pop((cluster_id, name), None) is None:
            raise CloudError(f"googleapi: Error 404: Not found: {cluster_id}/nodePools/{name}., notFound")

    def settle_cluster(self, cluster_id: str) -> dict[str, Any] | None:
        return self.clusters.get(cluster_id)

    def settle_node_pool(self, cluster_id: str, name: str) -> dict[str, Any] | None:
        return self.pools.get((cluster_id, name))

    def cluster_facts(self) -> dict[str, Any]:
        return {
            "endpoint": "127.0.0.1:6443",
            "masterVersion": "v1",
            "masterAuth": {"clusterCaCertificate": "Q0E=", "clientCertificate": "", "clientKey": "private"},
        }


@pytest.fixture
def cloud() -> DictionaryCloud:
    return DictionaryCloud()


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "secrets")


@pytest.fixture
def client(cloud: DictionaryCloud, records: Records, store: SecretStore) -> Iterator[Client]:
    with Engine(lambda: GcpProvider(cloud, records, store)) as engine:
        connected = engine.connect()
        connected.configure(project="p", region="asia-northeast1")
        yield connected


def pool(**more: Any) -> dict[str, Any]:
    return {
        "name": "l4-spot",
        "cluster": "c",
        "location": "asia-northeast1",
        "initialNodeCount": 1,
        "autoscaling": {"minNodeCount": 0, "maxNodeCount": 2},
        **more,
    }


def refusal(raised: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    return str(raised.value.details())


# --- checks


def test_a_misspelt_nested_key_is_refused_in_the_real_providers_words_with_the_nearest_known(client: Client) -> None:
    checked = client.check(urn(NODE_POOL, "l4-spot"), pool(nodeConfig={"machineTyp": "g2-standard-4"}))
    assert checked.failures == [
        ("", "Invalid or unknown key. Examine values at 'l4-spot.nodeConfig.machineTyp'. Did you mean 'machineType'?")
    ]


@pytest.mark.parametrize(
    ("token", "name", "expected"),
    [
        (NODE_POOL, "My_Pool", r"my-pool-[0-9a-f]{7}"),
        (NODE_POOL, "x" * 50, r"x{32}-[0-9a-f]{7}"),
        (CLUSTER, "main", r"main-[0-9a-f]{7}"),
        ("gcp:compute/network:Network", "net", r"net-[0-9a-f]{7}"),
    ],
)
def test_what_has_no_name_gets_one_that_fits(client: Client, token: str, name: str, expected: str) -> None:
    inputs = {"cluster": "c"} if token == NODE_POOL else {}
    checked = client.check(urn(token, name), inputs)
    assert re.fullmatch(expected, checked.inputs["name"])
    assert checked == client.check(urn(token, name), inputs)


@pytest.mark.parametrize(
    ("token", "inputs", "rule"),
    [
        (ACCOUNT, {"accountId": "short"}, '"accountId" ("short") doesn\'t match regexp'),
        (CLUSTER, {"name": "c" * 41}, "cannot be longer than 40 characters"),
        (CLUSTER, {"name": "Upper"}, "must begin with a letter"),
        (BUCKET, {"name": "Upper", "location": "US"}, "must be 3 to 63 lowercase letters"),
        (BUCKET, {"location": "US", "publicAccessPrevention": "on"}, 'to be one of ["inherited" "enforced"], got on'),
    ],
)
def test_names_that_google_refuses_are_refused_early(client: Client, token: str, inputs: dict[str, Any], rule: str) -> None:
    (failure,) = client.check(urn(token, "x"), inputs).failures
    assert rule in failure[1]


# --- diffs


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"nodeConfig": {"machineType": "a"}}, {"nodeConfig.machineType": "UPDATE"}),
        ({"nodeConfig": {"machineType": "b", "labels": {"a.b/c": "d"}}}, {"nodeConfig.labels": "ADD"}),
        ({"nodeConfig": {"machineType": "b", "spot": True}}, {"nodeConfig.spot": "ADD_REPLACE"}),
        ({"nodeConfig": {"machineType": "b", "preemptible": False}}, {}),
        (
            {"nodeConfig": {"machineType": "b", "guestAccelerators": [{"type": "t", "count": 1}]}},
            {"nodeConfig.guestAccelerators": "ADD_REPLACE"},
        ),
        ({"autoscaling": {"minNodeCount": 0, "maxNodeCount": 3}}, {"autoscaling.maxNodeCount": "UPDATE"}),
        ({"initialNodeCount": 2}, {"initialNodeCount": "UPDATE_REPLACE"}),
        ({"name": "other"}, {"name": "UPDATE_REPLACE"}),
        ({"location": UNKNOWN}, {"location": "UPDATE_REPLACE"}),
        ({"nodeLocations": ["z2", "z1"]}, {}),
        ({"nodeLocations": ["z2", "z3"]}, {"nodeLocations[0]": "UPDATE", "nodeLocations[1]": "UPDATE"}),
    ],
)
def test_a_pools_change_is_in_place_or_a_replacement_as_google_has_it(
    client: Client, change: dict[str, Any], details: dict[str, str]
) -> None:
    old = pool(nodeLocations=["z1", "z2"], nodeConfig={"machineType": "b"})
    assert client.diff(urn(NODE_POOL, "l4-spot"), old, {**old, **change}).details == details


@pytest.mark.parametrize(
    ("token", "block"),
    [
        (NODE_POOL, {"nodeConfig": {"spot": True}}),
        (CLUSTER, {"controlPlaneEndpointsConfig": {"ipEndpointsConfig": {"enabled": False}}}),
        (CLUSTER, {"binaryAuthorization": {"evaluationMode": "PROJECT_SINGLETON_POLICY_ENFORCE"}}),
        (REPOSITORY, {"vulnerabilityScanningConfig": {"enablementConfig": "INHERITED"}}),
    ],
)
def test_a_computed_block_that_a_program_leaves_out_is_no_change_and_keeps_its_value(
    client: Client, cloud: DictionaryCloud, token: str, block: dict[str, Any]
) -> None:
    named = pool() if token == NODE_POOL else {"repositoryId": "r", "format": "DOCKER"} if token == REPOSITORY else {"name": "c"}
    assert not client.diff(urn(token, "x"), {**named, **block}, named).changed
    if token != CLUSTER:
        return
    id, outputs = client.create(urn(token, "x"), {**named, **block})
    outputs = client.update(urn(token, "x"), id, {**named, **block}, outputs, {**named, "resourceLabels": {"a": "b"}})
    ((key, value),) = block.items()
    assert (outputs[key], cloud.clusters[id][key]) == (value, value)
    # Said again, it is what it was.
    assert not client.diff(urn(token, "x"), named, {**named, **block}, outputs).changed


def test_a_block_that_is_not_computed_goes_with_its_replacing_parts(client: Client) -> None:
    old = pool(nodeConfig={"spot": True, "machineType": "m"})
    assert client.diff(urn(NODE_POOL, "x"), old, pool(nodeConfig={"machineType": "m"})).details == {"nodeConfig.spot": "DELETE_REPLACE"}


def test_a_pool_of_a_given_name_goes_before_its_successor_comes_and_one_of_a_made_up_name_after(client: Client) -> None:
    given = client.diff(urn(NODE_POOL, "x"), pool(), pool(initialNodeCount=2))
    assert given.delete_before_replace
    # The bridge does not ask whether the name stays.
    assert client.diff(urn(NODE_POOL, "x"), pool(), pool(name="other")).delete_before_replace
    made_up = pool(name="x-0000000", __defaults=["name"])
    assert not client.diff(urn(NODE_POOL, "x"), made_up, {**made_up, "initialNodeCount": 2}).delete_before_replace


AUTHORIZATION = "gcp:certificatemanager/dnsAuthorization:DnsAuthorization"
MAP_ENTRY = "gcp:certificatemanager/certificateMapEntry:CertificateMapEntry"
SUBNET: dict[str, Any] = {"name": "n", "network": "projects/p/global/networks/n", "ipCidrRange": "10.64.0.0/22"}


@pytest.mark.parametrize(
    ("token", "inputs", "id"),
    [
        (NETWORK, {"name": "n", "autoCreateSubnetworks": False}, "projects/p/global/networks/n"),
        (SUBNETWORK, SUBNET, "projects/p/regions/asia-northeast1/subnetworks/n"),
        (ROUTER, {"name": "r", "network": "n"}, "projects/p/regions/asia-northeast1/routers/r"),
        (NAT, {"name": "nat", "router": "r", "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES"}, "p/asia-northeast1/r/nat"),
        # Global where no location is given, whatever the provider's region is.
        (AUTHORIZATION, {"name": "a", "domain": "llm.example.com"}, "projects/p/locations/global/dnsAuthorizations/a"),
        (MAP_ENTRY, {"name": "e", "map": "m", "certificates": []}, "projects/p/locations/global/certificateMaps/m/certificateMapEntries/e"),
    ],
)
def test_ids_are_google_s(client: Client, token: str, inputs: dict[str, Any], id: str) -> None:
    assert client.check(urn(token, "x"), inputs).failures == []
    assert client.create(urn(token, "x"), inputs)[0] == id


@pytest.mark.parametrize(
    ("token", "old", "change", "replaces"),
    [
        (NETWORK, {"name": "n", "autoCreateSubnetworks": False}, {"autoCreateSubnetworks": True}, True),
        (NETWORK, {"name": "n", "routingMode": "REGIONAL"}, {"routingMode": "GLOBAL"}, False),
        (SUBNETWORK, SUBNET, {"network": "projects/p/global/networks/other"}, True),
        (SUBNETWORK, SUBNET, {"privateIpGoogleAccess": True}, False),
        (ROUTER, {"name": "r", "network": "n"}, {"network": "other"}, True),
        (NAT, {"name": "nat", "router": "r"}, {"router": "other"}, True),
        (NAT, {"name": "nat", "router": "r"}, {"minPortsPerVm": 64}, False),
        (REPOSITORY, {"repositoryId": "r", "format": "DOCKER"}, {"labels": {"team": "inference"}}, False),
        (CLUSTER, {"name": "c"}, {"datapathProvider": "ADVANCED_DATAPATH"}, True),
        (CLUSTER, {"name": "c"}, {"network": "projects/p/global/networks/n"}, True),
        (CLUSTER, {"name": "c"}, {"binaryAuthorization": {"evaluationMode": "DISABLED"}}, False),
        (CLUSTER, {"name": "c"}, {"resourceLabels": {"team": "inference"}}, False),
        (CLUSTER, {"name": "c", "location": "asia-northeast1"}, {"location": "us-central1"}, True),
        (BUCKET, {"name": "b", "location": "ASIA-NORTHEAST1"}, {"location": "US"}, True),
        (BUCKET, {"name": "b", "location": "US"}, {"forceDestroy": True}, False),
        (ROLE, {"role": "roles/a", "member": "user:x"}, {"role": "roles/b"}, True),
    ],
)
def test_what_google_cannot_change_in_place_replaces(
    client: Client, token: str, old: dict[str, Any], change: dict[str, Any], replaces: bool
) -> None:
    found = client.diff(urn(token, "x"), old, {**old, **change})
    assert found.changed
    assert bool(found.replaces) is replaces


# --- clusters and pools


def test_a_cluster_is_the_clouds_and_its_private_key_is_secret(client: Client, cloud: DictionaryCloud) -> None:
    id, outputs = client.create(urn(CLUSTER, "c"), {"name": "c", "resourceLabels": {"team": Secret("t")}})
    assert id == CLUSTER_ID
    assert cloud.clusters[id] == {"name": "c", "resourceLabels": {"team": "t"}, "project": "p", "location": "asia-northeast1"}
    assert outputs["endpoint"] == "127.0.0.1:6443"
    assert outputs["masterAuth"]["clusterCaCertificate"] == "Q0E="
    assert outputs["masterAuth"]["clientKey"] == Secret("private")
    assert outputs["resourceLabels"] == {"team": Secret("t")}
    assert outputs["location"] == "asia-northeast1"


def test_a_refresh_sees_the_size_that_the_autoscaler_made_and_what_is_gone(client: Client, cloud: DictionaryCloud) -> None:
    client.create(urn(CLUSTER, "c"), {"name": "c"})
    id, outputs = client.create(urn(NODE_POOL, "x"), pool())
    read_id, inputs, read = client.read(urn(NODE_POOL, "x"), id, pool(), outputs)
    assert (read_id, inputs, read["nodeCount"]) == (id, pool(), 7)
    cloud.pools.clear()
    assert client.read(urn(NODE_POOL, "x"), id, pool(), outputs)[0] == ""


@pytest.mark.parametrize("given", [{}, {"deletionProtection": True}])
def test_a_protected_cluster_is_not_deleted_and_protection_is_the_default(
    client: Client, cloud: DictionaryCloud, given: dict[str, Any]
) -> None:
    id, outputs = client.create(urn(CLUSTER, "c"), {"name": "c", **given})
    with pytest.raises(grpc.RpcError) as raised:
        client.delete(urn(CLUSTER, "c"), id, outputs)
    assert refusal(raised).startswith("Cannot destroy cluster because deletion_protection is set to true.")
    assert id in cloud.clusters


# --- records


def test_an_api_stays_enabled_unless_it_is_to_be_disabled(client: Client, records: Records) -> None:
    for disable in (False, True):
        inputs = {"service": "compute.googleapis.com", "disableOnDestroy": disable}
        id, outputs = client.create(urn(SERVICE, "s"), inputs)
        client.delete(urn(SERVICE, "s"), id, outputs)
        assert (records.get(SERVICE, id) is None) is disable


def test_an_update_of_a_record_shows_in_a_read_and_keeps_the_date_of_creation(client: Client) -> None:
    old = {"repositoryId": "r", "format": "DOCKER"}
    id, outputs = client.create(urn(REPOSITORY, "r"), old)
    news = {**old, "description": "new"}
    after = client.update(urn(REPOSITORY, "r"), id, old, outputs, news)
    assert (after["description"], after["createTime"]) == ("new", outputs["createTime"])
    _, inputs, imported = client.read(urn(REPOSITORY, "r"), id, {}, {})
    assert inputs == news
    assert imported["registryUri"] == outputs["registryUri"]


def test_an_imported_cluster_is_protected_until_the_program_says_otherwise_and_keeps_what_it_was_given(client: Client) -> None:
    given = {"name": "c", "deletionProtection": False, "removeDefaultNodePool": True, "initialNodeCount": 1}
    id, _ = client.create(urn(CLUSTER, "c"), given)
    _, inputs, outputs = client.read(urn(CLUSTER, "c"), id, given, {})
    # The provider's own properties: Google knows neither.
    assert inputs == {"name": "c", "deletionProtection": True, "initialNodeCount": 1}
    assert (outputs["deletionProtection"], outputs["endpoint"]) == (True, "127.0.0.1:6443")
    changes = client.diff(urn(CLUSTER, "c"), inputs, given)
    assert set(changes.details) == {"deletionProtection", "removeDefaultNodePool"}
    assert not changes.replaces


@pytest.mark.parametrize("type_token", [CLUSTER, NODE_POOL])
def test_an_importer_of_a_cluster_or_pool_that_is_not_there_fails(client: Client, type_token: str) -> None:
    id = CLUSTER_ID if type_token == CLUSTER else f"{CLUSTER_ID}/nodePools/x"
    with pytest.raises(grpc.RpcError, match="Error 404: Not found"):
        client.read(urn(type_token, "x"), id, {}, {})


def test_a_binding_is_imported_by_its_parts_with_spaces_between_them(client: Client) -> None:
    given = {"project": "p", "role": "roles/r", "member": "serviceAccount:a"}
    id, _ = client.create(urn(ROLE, "m"), given)
    assert client.read(urn(ROLE, "m"), "p roles/r serviceAccount:a", given, {})[:2] == (id, given)


def test_secrets_never_reach_the_file_of_records(client: Client, tmp_path: Path) -> None:
    id, outputs = client.create(urn(ACCOUNT, "a"), {"accountId": "account", "description": Secret("hunter2")})
    assert outputs["description"] == Secret("hunter2")
    file = tmp_path / "cloud.json"
    assert "hunter2" not in file.read_text()
    assert id in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_kind_without_an_entry_is_refused(client: Client) -> None:
    with pytest.raises(grpc.RpcError, match="gcp:pubsub/topic:Topic is not among the kinds of the sandbox's Google Cloud"):
        client.check(urn("gcp:pubsub/topic:Topic", "news"), {})


# --- values and names that the real provider refuses


def test_a_name_that_is_taken_is_refused_with_its_owner(client: Client) -> None:
    client.create(urn(ACCOUNT, "first"), {"accountId": "account"})
    with pytest.raises(grpc.RpcError) as raised:
        client.create(urn(ACCOUNT, "second"), {"accountId": "account"})
    assert "Error 409" in refusal(raised)
    assert f"made by {urn(ACCOUNT, 'first')}" in refusal(raised)


# --- Secret Manager

VERSION = "gcp:secretmanager/getSecretVersion:getSecretVersion"


def test_the_latest_version_of_a_secret_is_read_as_a_secret(client: Client, store: SecretStore) -> None:
    store.add("p", "key", "one")
    store.add("p", "key", "two")
    found = client.invoke(VERSION, secret="key")
    assert (found["secretData"], found["version"]) == (Secret("two"), "2")
    assert found["name"] == f"projects/{project_number('p')}/secrets/key/versions/2"
    assert client.invoke(VERSION, secret="key", version="1", project="p")["secretData"] == Secret("one")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"secret": "other"}, "/secrets/other] not found or has no versions."),
        ({"secret": "key", "version": "7"}, "/secrets/key/versions/7] not found."),
        ({"secret": "key", "project": "q"}, f"projects/{project_number('q')}/secrets/key] not found"),
    ],
)
def test_a_missing_secret_is_refused_with_google_s_message(client: Client, store: SecretStore, args: dict[str, str], said: str) -> None:
    store.add("p", "key", "one")
    with pytest.raises(grpc.RpcError) as raised:
        client.invoke(VERSION, **args)
    assert "Error 404: Secret" in refusal(raised)
    assert said in refusal(raised)
