"""What the engine and its user see of the stand-in gcp provider when Google's APIs misbehave."""

from collections.abc import Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from sandbox.google.access_tokens import AccessTokens, Login
from sandbox.google.faults import CLOUD, FaultStore, Rule
from sandbox.google.latencies import Clock
from sandbox.google.records import Records
from sandbox.providers.gcp import GcpProvider
from sandbox.providers.gcp_kinds import CLUSTER
from sandbox.providers.google_requests import GoogleRequests
from tests.unit.provider_client import Client, Engine, urn
from tests.unit.sandbox.test_provider_gcp import ACCOUNT, DictionaryCloud, refusal

TOKEN = "gcp:organizations/getClientConfig:getClientConfig"
INPUTS = {"accountId": "nodes"}


@pytest.fixture
def faults(tmp_path: Path) -> FaultStore:
    return FaultStore(tmp_path)


@pytest.fixture
def tokens(tmp_path: Path) -> AccessTokens:
    return AccessTokens(tmp_path)


@pytest.fixture
def client(tmp_path: Path, faults: FaultStore, tokens: AccessTokens) -> Iterator[Client]:
    requests = GoogleRequests(faults=faults, tokens=tokens, clock=Clock(100_000.0))
    cloud, records = DictionaryCloud(), Records(tmp_path / "cloud.json")
    with Engine(lambda: GcpProvider(cloud, records, requests=requests)) as engine:
        connected = engine.connect()
        connected.configure(project="p", region="asia-northeast1")
        yield connected


def burst(answer: str, count: int, after: int = 0) -> Rule:
    return Rule(api=CLOUD, answer=answer, burst=count, after=after)


def test_a_fault_that_does_not_pass_fails_with_google_s_message_and_leaves_nothing(client: Client, faults: FaultStore) -> None:
    faults.set(burst("409", 1))
    with pytest.raises(grpc.RpcError) as raised:
        client.create(urn(ACCOUNT, "nodes"), INPUTS)
    assert refusal(raised) == "Error creating Account: googleapi: Error 409: The operation was aborted., aborted"
    client.create(urn(ACCOUNT, "nodes"), INPUTS)


def test_a_cluster_that_is_made_and_cannot_be_read_is_kept_as_incomplete(client: Client, faults: FaultStore) -> None:
    # The creation, its twelve polls, and then no read.
    faults.set(burst("500", 10_000, after=13))
    with pytest.raises(grpc.RpcError) as raised:
        client.create(urn(CLUSTER, "c"), {"name": "c", "location": "asia-northeast1"})
    assert "Error reading Cluster after it was created: googleapi: Error 500" in refusal(raised)
    assert raised.value.trailing_metadata() is not None


def test_without_a_login_there_is_no_token(client: Client, tokens: AccessTokens) -> None:
    assert tokens.valid(client.invoke(TOKEN)["accessToken"].value)
    tokens.set_login(Login(revoked=True))
    with pytest.raises(grpc.RpcError) as raised:
        client.invoke(TOKEN)
    assert 'Error setting access_token: oauth2: "invalid_grant"' in refusal(raised)
