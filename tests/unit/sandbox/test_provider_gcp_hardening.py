"""The stand-in gcp provider's network kinds, Secret Manager and DNS endpoint, as the public Terraform provider has them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest

from sandbox.google.records import Records
from sandbox.google.secret_manager import SecretStore
from sandbox.host import ca_bundle
from sandbox.host.certificates import make_certificates
from sandbox.providers.gcp import GcpProvider
from sandbox.providers.gcp_kinds import CLUSTER, project_number
from sandbox.providers.wire import Secret
from tests.unit.provider_client import Client, Engine, urn
from tests.unit.sandbox.test_provider_gcp import DictionaryCloud, refusal

NETWORK = "gcp:compute/network:Network"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"
ROUTER = "gcp:compute/router:Router"
NAT = "gcp:compute/routerNat:RouterNat"
REPOSITORY = "gcp:artifactregistry/repository:Repository"


class DnsCloud(DictionaryCloud):
    """Knows the cluster's name besides its address."""

    def cluster_facts(self) -> dict[str, Any]:
        return {**super().cluster_facts(), "controlPlaneEndpointsConfig": {"dnsEndpointConfig": {"endpoint": "localhost:6443"}}}


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "secrets")


@pytest.fixture
def client(tmp_path: Path, store: SecretStore) -> Iterator[Client]:
    records = Records(tmp_path / "cloud.json")
    with Engine(lambda: GcpProvider(DnsCloud(), records, store)) as engine:
        connected = engine.connect()
        connected.configure(project="p", region="asia-northeast1")
        yield connected


SUBNET: dict[str, Any] = {"name": "n", "network": "projects/p/global/networks/n", "ipCidrRange": "10.64.0.0/22"}


@pytest.mark.parametrize(
    ("token", "inputs", "id"),
    [
        (NETWORK, {"name": "n", "autoCreateSubnetworks": False}, "projects/p/global/networks/n"),
        (SUBNETWORK, SUBNET, "projects/p/regions/asia-northeast1/subnetworks/n"),
        (ROUTER, {"name": "r", "network": "n"}, "projects/p/regions/asia-northeast1/routers/r"),
        (NAT, {"name": "nat", "router": "r", "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES"}, "p/asia-northeast1/r/nat"),
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
    ],
)
def test_what_google_cannot_change_in_place_replaces(
    client: Client, token: str, old: dict[str, Any], change: dict[str, Any], replaces: bool
) -> None:
    found = client.diff(urn(token, "x"), old, {**old, **change})
    assert found.changed
    assert bool(found.replaces) is replaces


def test_a_cluster_s_name_joins_what_the_program_says_of_its_endpoints(client: Client) -> None:
    config = {"dnsEndpointConfig": {"allowExternalTraffic": True}, "ipEndpointsConfig": {"enabled": False}}
    inputs = {"name": "c", "location": "asia-northeast1", "controlPlaneEndpointsConfig": config}
    _, outputs = client.create(urn(CLUSTER, "c"), inputs)
    assert outputs["controlPlaneEndpointsConfig"] == {
        "dnsEndpointConfig": {"allowExternalTraffic": True, "endpoint": "localhost:6443"},
        "ipEndpointsConfig": {"enabled": False},
    }


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


# --- trust


def test_the_sandbox_s_authority_joins_the_machine_s_once(tmp_path: Path) -> None:
    bundle = tmp_path / "trust.pem"
    authority = make_certificates(tmp_path / "c", names=("localhost",), addresses=("127.0.0.1",)).ca
    ca_bundle.make_bundle(bundle, {})
    before = bundle.read_text()
    ca_bundle.add_authority(bundle, authority)
    ca_bundle.add_authority(bundle, authority)
    assert bundle.read_text().startswith(before.rstrip())
    assert bundle.read_text().count(authority.read_text()) == 1
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    subjects = [str(known["subject"]) for known in context.get_ca_certs()]
    assert any("sandbox-ca" in each for each in subjects)
    assert len(subjects) > 1
