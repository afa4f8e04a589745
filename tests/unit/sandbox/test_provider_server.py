"""The provider protocol's translation, over a real channel, with a provider of the test's own."""

import base64
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2

from sandbox.providers.differences import Difference, compare
from sandbox.providers.server import (
    Change,
    Checked,
    CheckFailure,
    Created,
    PartialFailureError,
    Properties,
    Provider,
    ProviderError,
    ReadState,
    Urn,
)
from sandbox.providers.wire import UNKNOWN, Secret, from_struct, keep_secrets, plain, to_struct
from tests.unit.provider_client import Client, Engine, partial_failure, urn

THING = urn("test:index:Thing", "thing")


class EchoProvider(Provider):
    """Says back what it gets; certain values of `do` make it fail."""

    package = "test"
    version = "1.2.3"

    def __init__(self) -> None:
        super().__init__()
        self.region = ""

    def configure(self, variables: Any, args: Properties) -> None:
        self.region = args["region"]

    def check(self, urn: Urn, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        failures = [CheckFailure("a.b", "is bad")] if news.get("do") == "refuse" else []
        if news.get("do") == "tell":
            failures = [CheckFailure("key", f"{plain(news['key'])} is bad")]
        return Checked({**news, "seen": [urn.type_token, urn.name, olds is None, len(seed)]}, failures)

    def diff(self, change: Change) -> Difference:
        changes = compare(change.old_inputs, change.new_inputs)
        return Difference(tuple(replace(each, replaces=each.path[0] == "name") for each in changes), delete_before_replace=True)

    def create(self, urn: Urn, inputs: Properties, timeout: float | None, preview: bool) -> Created:
        match inputs.get("do"):
            case "refuse":
                raise ProviderError("quota exceeded: 1 < 2")
            case "break":
                raise ZeroDivisionError("by nought")
            case "tell":
                raise ProviderError(f"refused {plain(inputs['key'])}")
            case "tell encoded":
                encoded = base64.b64encode(plain(inputs["key"]).encode()).decode()
                raise ValueError(f"cannot read {encoded}")
            case "tell half":
                key = plain(inputs["key"])
                raise PartialFailureError(f"not {key}", id="half", outputs={}, inputs=inputs, reasons=[f"has {key}"])
            case "half":
                raise PartialFailureError("not ready", id="half", outputs={"key": Secret("k")}, inputs=inputs, reasons=["pending", "late"])
            case "wait":
                assert self.cancelled.wait(20)
                raise ProviderError("interrupted")
        return Created("" if preview else "thing", {**inputs, "region": self.region, "timeout": timeout})

    def read(self, urn: Urn, id: str, inputs: Properties, outputs: Properties) -> ReadState | None:
        return None if id == "gone" else ReadState(id, inputs, outputs)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(EchoProvider) as running:
        yield running


@pytest.fixture
def client(engine: Engine) -> Client:
    connected = engine.connect()
    connected.configure(region="here")
    return connected


# --- values


@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, True, None, "text", [], {}]}, {"s": Secret({"a": [Secret("b")]}), "u": UNKNOWN, "nested": {"u": [UNKNOWN]}}, {}],
)
def test_values_survive_the_wire(value: dict[str, Any]) -> None:
    assert from_struct(to_struct(value)) == value


def test_whole_numbers_stay_whole_and_booleans_are_none() -> None:
    numbers = from_struct(to_struct({"i": 3, "f": 3.0, "b": True}))
    assert {key: type(each) for key, each in numbers.items()} == {"i": int, "f": int, "b": bool}


def test_an_output_value_is_what_it_holds() -> None:
    signature = "4dabf18193072939515e22adb298388d"
    output = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
    assert from_struct(
        to_struct({"u": {signature: output}, "k": {signature: output, "value": "v", "secret": True, "dependencies": []}})
    ) == {"u": UNKNOWN, "k": Secret("v")}


def test_secrets_are_taken_off_and_put_back_where_they_were() -> None:
    marked = {"a": Secret("x"), "b": [{"c": Secret(1)}, 2], "d": "plain"}
    bare = plain(marked)
    assert bare == {"a": "x", "b": [{"c": 1}, 2], "d": "plain"}
    assert keep_secrets({**bare, "e": "new"}, marked) == {**marked, "e": "new"}


# --- differences


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": None}, {}, {}),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3, 4]}}, {"a.b[1]": "update", "a.b[2]": "add"}),
        ({"a": {"b": 1}}, {}, {"a": "delete"}),
        ({}, {"a": {"b": 1}}, {"a": "add"}),
        ({"a": {"x.y/z": "1"}}, {"a": {"x.y/z": "2"}}, {'a["x.y/z"]': "update"}),
        ({"a": 1}, {"a": UNKNOWN}, {"a": "update"}),
        ({"a": 1}, {"a": True}, {"a": "update"}),
        ({"a": Secret("x")}, {"a": Secret("x")}, {}),
        ({"a": Secret({"b": "x"})}, {"a": {"b": "y"}}, {"a.b": "update"}),
    ],
)
def test_differences_are_named_by_their_paths(old: Any, new: Any, expected: dict[str, str]) -> None:
    assert {change.property_path: change.kind for change in compare(old, new)} == expected


# --- calls


def test_a_check_gets_type_name_and_seed_and_reports_failures(client: Client) -> None:
    checked = client.check(THING, {"do": "refuse", "key": Secret("k")})
    assert checked.inputs["seen"] == ["test:index:Thing", "thing", True, 32]
    assert checked.inputs["key"] == Secret("k")
    assert checked.failures == [("a.b", "is bad")]
    assert client.check(THING, {}, {"old": 1}).inputs["seen"][2] is False
    assert client.check(THING, {"do": "tell", "key": Secret("hunter2")}).failures == [("key", "[secret] is bad")]


def test_a_diff_tells_each_path_and_what_replaces(client: Client) -> None:
    diff = client.diff(THING, {"name": "a", "deep": {"x": [1]}}, {"name": "b", "deep": {"x": [2]}, "more": 1})
    assert diff.changed
    assert diff.details == {"name": "UPDATE_REPLACE", "deep.x[0]": "UPDATE", "more": "ADD"}
    assert diff.replaces == ["name"]
    assert diff.delete_before_replace


def test_each_connection_has_a_configuration_of_its_own_and_one_made_anew_the_last(engine: Engine) -> None:
    clients = {region: engine.connect() for region in ("north", "south")}
    for region, client in clients.items():
        client.configure(region=region)
    for region, client in [*clients.items(), ("south", engine.connect())]:
        assert client.create(THING, {})[1]["region"] == region


# --- errors


@pytest.mark.parametrize(
    ("inputs", "code", "message"),
    [
        ({"do": "refuse"}, grpc.StatusCode.UNKNOWN, "quota exceeded: 1 < 2"),
        ({"do": "break"}, grpc.StatusCode.INTERNAL, "ZeroDivisionError: by nought"),
        ({"do": "tell", "key": Secret("hunter2")}, grpc.StatusCode.UNKNOWN, "refused [secret]"),
        # Numbers would garble more than they could tell.
        ({"do": "tell", "key": Secret({"deep": [1]})}, grpc.StatusCode.UNKNOWN, "refused {'deep': [1]}"),
    ],
)
def test_an_error_reaches_the_user_word_by_word_without_secrets(
    client: Client, inputs: dict[str, Any], code: grpc.StatusCode, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        client.create(THING, inputs)
    assert (raised.value.code(), raised.value.details()) == (code, message)


def test_a_half_made_resource_is_handed_over_to_be_saved(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        client.create(THING, {"do": "half"})
    detail = partial_failure(raised.value)
    assert (detail.id, list(detail.reasons)) == ("half", ["pending", "late"])
    assert from_struct(detail.properties) == {"key": Secret("k")}
    assert from_struct(detail.inputs) == {"do": "half"}


def test_an_interruption_ends_what_waits_and_the_next_engine_at_its_address_begins_anew(client: Client) -> None:
    client.stub.Cancel(empty_pb2.Empty(), timeout=20)
    # As an engine begins.
    client.version()
    client.configure(region="here")
    errors: list[str] = []

    def create() -> None:
        try:
            client.create(THING, {"do": "wait"})
        except grpc.RpcError as error:
            errors.append(error.details())

    waiting = threading.Thread(target=create)
    waiting.start()
    waiting.join(0.3)
    assert errors == []
    client.stub.Cancel(empty_pb2.Empty(), timeout=20)
    waiting.join(20)
    assert errors == ["interrupted"]


def test_a_vanished_engine_ends_what_waits() -> None:
    instances: list[Provider] = []
    started = threading.Event()

    class NotedProvider(EchoProvider):
        def create(self, urn: Urn, inputs: Properties, timeout: float | None, preview: bool) -> Created:
            instances.append(self)
            started.set()
            return super().create(urn, inputs, timeout, preview)

    with Engine(NotedProvider) as engine:
        client = engine.connect()
        client.configure(region="here")
        request = provider_pb2.CreateRequest(urn=THING, properties=to_struct({"do": "wait"}))
        call = client.stub.Create.future(request, timeout=20)
        assert started.wait(20)
        assert not instances[0].cancelled.is_set()
        client.channel.close()
        assert instances[0].cancelled.wait(20)
        assert call.code() == grpc.StatusCode.CANCELLED


# --- secrets


SECRET = "hunter2-and-more"


def test_a_partial_failure_that_tells_a_secret_is_cleared_of_it_and_keeps_it_in_the_state(client: Client) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        client.create(THING, {"do": "tell half", "key": Secret(SECRET)})
    detail = partial_failure(raised.value)
    assert (raised.value.details(), list(detail.reasons)) == ("not [secret]", ["has [secret]"])
    assert from_struct(detail.inputs)["key"] == Secret(SECRET)


def test_neither_the_log_nor_the_message_of_a_defect_has_a_secret_plain_or_encoded(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(grpc.RpcError) as raised:
        client.create(THING, {"do": "tell encoded", "key": Secret(SECRET)})
    assert raised.value.details() == "ValueError: cannot read [secret]"
    assert "ValueError: cannot read [secret]" in caplog.text
    assert "in create" in caplog.text
    for text in (SECRET, base64.b64encode(SECRET.encode()).decode()):
        assert text not in caplog.text
