"""Settings of the hardened stack: what is refused, with field, value, reason and fix, and what the prod stack's come to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.settings import stack_files
from components.settings.maintenance_window import MaintenanceWindow
from components.settings.network_ranges import NetworkRanges
from components.settings.problems import SettingsError
from components.settings.secret_reference import SecretReference, parse_reference
from components.settings.settings import Settings, is_internet, parse
from tests.unit.program import API_KEY, NAMESPACE, config

RANGES = {"nodeRange": "10.64.0.0/22", "podRange": "10.65.0.0/17", "serviceRange": "10.64.16.0/20"}
WINDOW = {
    "startTime": "2026-01-03T15:00:00Z",
    "endTime": "2026-01-03T23:00:00Z",
    "recurrence": "FREQ=WEEKLY;BYDAY=SA,SU",
}
KEY = "projects/p/locations/asia-northeast1/keyRings/r/cryptoKeys/k"


def _parse(api_key: str = "", *, stack: str = "dev", **overrides: Any) -> Settings:
    values = config(overrides, stack=stack)
    return parse(values, namespace=NAMESPACE, stack=stack, hugging_face_token="", api_key=api_key)


# What is set, the field of the one problem, and what its line says: value, reason and fix.
BAD: dict[str, tuple[dict[str, Any], str, tuple[str, str, str]]] = {
    "server open to the internet": (
        {"requireApiKey": True},
        "requireApiKey",
        ("true", "everybody on the internet can reach", "set apiKeySecret or apiKey, or name loadBalancerSourceRanges"),
    ),
    "ranges that are the internet": (
        {"requireApiKey": True, "loadBalancerSourceRanges": ["0.0.0.0/1", "128.0.0.0/1"]},
        "requireApiKey",
        ("true", "everybody on the internet can reach", "`requireApiKey: false` leaves the server open"),
    ),
    "secret of no such form": (
        {"apiKeySecret": "projects/p/keys/k"},
        "apiKeySecret",
        (
            '"projects/p/keys/k"',
            "is not a name of a secret in Secret Manager",
            "give NAME or projects/PROJECT/secrets/NAME",
        ),
    ),
    "token in two places": (
        {"huggingFaceToken": "hf_a-token", "huggingFaceTokenSecret": "hf"},
        "huggingFaceTokenSecret",
        ('"hf"', "and so is huggingFaceToken", "`pulumi config rm` one of the two"),
    ),
    "network range that is a number": (
        {"network": {**RANGES, "nodeRange": 5}},
        "network.nodeRange",
        ("5", "is not an IPv4 range (not a text)", "give CIDR notation"),
    ),
    "network range that is the machine's own": (
        {"network": {**RANGES, "nodeRange": "127.0.0.0/20"}},
        "network.nodeRange",
        ('"127.0.0.0/20"', "is not a private range", "take one of 10.0.0.0/8"),
    ),
    "range of Services that GKE does not take": (
        {"network": {**RANGES, "serviceRange": "10.64.16.0/28"}},
        "network.serviceRange",
        ('"10.64.16.0/28"', "GKE takes /16 to /27", "give one such as 10.64.16.0/20"),
    ),
    "time that Google does not read": (
        {"maintenanceWindow": {**WINDOW, "startTime": "2026-1-3T15:0:0Z"}},
        "maintenanceWindow.startTime",
        ('"2026-1-3T15:0:0Z"', "is not a time in UTC", "in quotes"),
    ),
    "network without a range": (
        {"network": {key: RANGES[key] for key in ("nodeRange", "podRange")}},
        "network.serviceRange",
        ("", "is missing", "give CIDR notation"),
    ),
    "misspelt range": (
        {"network": {**RANGES, "podsRange": "10.80.0.0/16"}},
        "network.podsRange",
        ('"10.80.0.0/16"', "is not a key of a network", "did you mean podRange?"),
    ),
    "network that is a text": (
        {"network": '"default"'},
        "network",
        ('"default"', "is not a mapping", "or {} for the default network"),
    ),
    "range with host bits": (
        {"network": {**RANGES, "nodeRange": "10.64.0.1/22"}},
        "network.nodeRange",
        ('"10.64.0.1/22"', "is not an IPv4 range", "give CIDR notation"),
    ),
    "public range": (
        {"network": {**RANGES, "serviceRange": "8.8.0.0/20"}},
        "network.serviceRange",
        ('"8.8.0.0/20"', "is not a private range", "10.0.0.0/8"),
    ),
    "overlapping ranges": (
        {"network": {**RANGES, "serviceRange": "10.65.0.0/20"}},
        "network.serviceRange",
        ('"10.65.0.0/20"', "overlaps podRange 10.65.0.0/17", "addresses of its own"),
    ),
    "pods' range for too few nodes": (
        {"network": {**RANGES, "podRange": "10.65.0.0/22"}},
        "network",
        ("10.65.0.0/22", "has addresses for 4 nodes, and all pools together may have 9", "take a longer podRange"),
    ),
    "unknown endpoint": (
        {"controlPlaneEndpoint": "dsn"},
        "controlPlaneEndpoint",
        ('"dsn"', "is not one of ip, dns", "did you mean dns?"),
    ),
    "ranges for an address that is off": (
        {"controlPlaneEndpoint": "dns", "controlPlaneSourceRanges": ["203.0.113.0/24"]},
        "controlPlaneSourceRanges",
        ("203.0.113.0/24", "has no effect", "or set controlPlaneEndpoint to ip"),
    ),
    "namespaces without a policy": (
        {"clientNamespaces": ["chat"]},
        "clientNamespaces",
        ("chat", "has no effect without networkPolicy", "set networkPolicy to true"),
    ),
    "namespace that is none": (
        {"clientNamespaces": ["Chat"], "networkPolicy": True},
        "clientNamespaces",
        ('"Chat"', "is not a Kubernetes namespace", "lower-case"),
    ),
    "request of devices of both kinds": (
        {"deviceAccess": "request"},
        "deviceAccess",
        ('"request"', "the pools have gpu and tpu", "set it to auto or privileged"),
    ),
    "window without an end": (
        {"maintenanceWindow": {**WINDOW, "endTime": None}},
        "maintenanceWindow.endTime",
        ("", "is missing", "in quotes"),
    ),
    "time of a zone": (
        {"maintenanceWindow": {**WINDOW, "startTime": "2026-01-03T15:00:00+09:00"}},
        "maintenanceWindow.startTime",
        ("+09:00", "is not a time in UTC", '"2026-01-03T15:00:00Z"'),
    ),
    "recurrence of hours": (
        {"maintenanceWindow": {**WINDOW, "recurrence": "FREQ=HOURLY"}},
        "maintenanceWindow.recurrence",
        ('"FREQ=HOURLY"', "is not a recurrence of days", "FREQ=DAILY"),
    ),
    "short window": (
        {"maintenanceWindow": {**WINDOW, "endTime": "2026-01-03T16:00:00Z"}},
        "maintenanceWindow.endTime",
        ('"2026-01-03T16:00:00Z"', "is 1 hours after startTime, and GKE wants 4 to 24", "move one of the two"),
    ),
    "too little time for maintenance": (
        {"maintenanceWindow": {**WINDOW, "recurrence": "FREQ=WEEKLY;BYDAY=SA"}},
        "maintenanceWindow.recurrence",
        ('"FREQ=WEEKLY;BYDAY=SA"', "gives 32 hours in 32 days", "add days"),
    ),
    "misspelt key of the window": (
        {"maintenanceWindow": {**WINDOW, "recurence": "FREQ=DAILY"}},
        "maintenanceWindow.recurence",
        ('"FREQ=DAILY"', "is not a key of a maintenance window", "did you mean recurrence?"),
    ),
    "window that is a list": (
        {"maintenanceWindow": []},
        "maintenanceWindow",
        ("[]", "is not a mapping", "{} for any time"),
    ),
    "key of another region": (
        {"secretsEncryptionKey": KEY.replace("asia-northeast1", "global")},
        "secretsEncryptionKey",
        ("locations/global", "wants a key in the cluster's region asia-northeast1", "name a key of asia-northeast1"),
    ),
    "name of a key alone": (
        {"secretsEncryptionKey": "k"},
        "secretsEncryptionKey",
        ('"k"', "is not a resource name of a Cloud KMS key", "projects/PROJECT/locations/asia-northeast1"),
    ),
    "negative retention": (
        {"imageRetentionDays": -1},
        "imageRetentionDays",
        ('"-1"', "is not a whole number from 0 to 3650", "give one from 0 to 3650"),
    ),
    "label in capitals": (
        {"labels": {"Team": "inference"}},
        "labels.Team",
        ('"inference"', "is no name of a label", "lower-case letters"),
    ),
    "label of Google's": (
        {"labels": {"goog-team": "inference"}},
        "labels.goog-team",
        ('"inference"', "begins with goog", "choose another name"),
    ),
    "value of a label that is a number": (
        {"labels": {"cost-centre": 4711}},
        "labels.cost-centre",
        (" 4711 ", "is no value of a label", "in quotes"),
    ),
    "labels that are a list": (
        {"labels": ["team"]},
        "labels",
        ("team", "is not a mapping", "give label: value"),
    ),
}


@pytest.mark.parametrize(("overrides", "field", "parts"), BAD.values(), ids=BAD)
def test_bad_setting_is_refused_with_field_value_reason_and_fix(overrides: dict[str, Any], field: str, parts: tuple[str, str, str]) -> None:
    with pytest.raises(SettingsError) as refused:
        _parse(**overrides)
    (line,) = [each for each in str(refused.value).splitlines() if each.startswith("  - ")]
    assert line.startswith(f"  - {field}:")
    for part in parts:
        assert part in line


@pytest.mark.parametrize("key", ["tiny-secret", "with a space in the middle", "länger-als-sechzehn-zeichen"])
def test_a_key_that_could_be_guessed_or_sent_by_no_client_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        _parse(key, apiKey=key)
    assert "apiKey: is shorter than 16 characters" in str(refused.value)
    assert key not in str(refused.value)


OPEN_OR_KEYED: dict[str, dict[str, Any]] = {
    "key from Secret Manager": {"apiKeySecret": "vllm-api-key"},
    "clients by their ranges": {"loadBalancerSourceRanges": ["203.0.113.0/24"]},
    "a private range however wide": {"loadBalancerSourceRanges": ["10.0.0.0/8"]},
    "internal load balancer": {"internalLoadBalancer": True},
    "openness that somebody asked for": {"requireApiKey": False},
}


@pytest.mark.parametrize("overrides", OPEN_OR_KEYED.values(), ids=OPEN_OR_KEYED)
def test_a_server_that_not_everybody_reaches_needs_no_key(overrides: dict[str, Any]) -> None:
    _parse(**{"requireApiKey": True, **overrides})


def test_a_key_is_one_wherever_it_comes_from() -> None:
    assert _parse(API_KEY, requireApiKey=True).api_key == API_KEY
    _parse(stack_files.UNREAD, requireApiKey=True)


def test_a_stack_needs_a_key_unless_it_says_otherwise() -> None:
    with pytest.raises(SettingsError, match="requireApiKey"):
        _parse(requireApiKey=stack_files.schema()["requireApiKey"]["default"])


def test_an_encrypted_key_counts_where_only_the_engine_can_read_it(tmp_path: Path) -> None:
    text = stack_files.stack_file("prod").read_text().replace("apiKeySecret: vllm-api-key", "apiKey: {secure: v1:abc}")
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(text.replace("[203.0.113.0/24]", "[]"))
    loaded = stack_files.load("prod", {"gcp:project": "my-project"}, file=file)
    assert loaded.api_key == stack_files.UNREAD
    with pytest.raises(SettingsError, match="requireApiKey"):
        stack_files.load("prod", {"gcp:project": "my-project", "loadBalancerSourceRanges": [], "apiKeySecret": ""})


@pytest.mark.parametrize(
    ("ranges", "internet"),
    [
        ([], True),
        (["0.0.0.0/0"], True),
        (["203.0.113.0/24"], False),
        (["203.0.113.0/24", "64.0.0.0/2"], True),
        (["10.0.0.0/8"], False),
        (["nonsense"], False),
    ],
)
def test_the_internet_is_everybody_or_a_large_part_of_it(ranges: list[str], internet: bool) -> None:
    assert is_internet(ranges) is internet


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf", SecretReference(project=None, secret="hf", version="latest")),
        ("hf/versions/3", SecretReference(project=None, secret="hf", version="3")),
        ("projects/p-1/secrets/h_F", SecretReference(project="p-1", secret="h_F", version="latest")),
        ("projects/p/secrets/hf/versions/latest", SecretReference(project="p", secret="hf", version="latest")),
        ("projects/p/secrets/hf/versions/0", None),
        ("hf token", None),
        ("", None),
    ],
)
def test_secrets_are_named_as_google_names_them_or_by_name(text: str, reference: SecretReference | None) -> None:
    assert parse_reference(text) == reference


def test_daily_windows_of_four_hours_are_enough() -> None:
    window = {**WINDOW, "endTime": "2026-01-03T19:00:00Z", "recurrence": "FREQ=DAILY"}
    assert _parse(maintenanceWindow=window).maintenance_window == MaintenanceWindow(
        start=window["startTime"], end=window["endTime"], recurrence="FREQ=DAILY"
    )


@pytest.mark.parametrize(("pods", "nodes", "most"), [("10.0.0.0/14", "10.8.0.0/28", 12), ("10.0.0.0/23", "10.8.0.0/20", 2)])
def test_a_network_has_room_for_as_many_nodes_as_both_of_its_ranges(pods: str, nodes: str, most: int) -> None:
    assert NetworkRanges(nodes=nodes, pods=pods, services="10.9.0.0/20").max_nodes == most


def test_prod_settings_are_the_hardened_ones() -> None:
    prod = _parse(stack="prod")
    assert prod.deletion_protection
    assert prod.network == NetworkRanges(nodes="10.64.0.0/22", pods="10.65.0.0/17", services="10.64.16.0/20")
    assert (prod.control_plane_endpoint, prod.network_policy, prod.binary_authorization) == ("dns", True, True)
    assert prod.api_key_secret == SecretReference(project=None, secret="vllm-api-key", version="latest")
    assert {pool.provisioning for pool in prod.accelerator_pools} == {"on-demand", "spot"}
    assert prod.replicas > 1
    assert prod.labels["environment"] == "prod"
    # Nobody is let in before somebody says who.
    assert not is_internet(prod.load_balancer_source_ranges)


def test_what_differs_between_dev_and_prod_is_settings() -> None:
    for stack in ("dev", "prod"):
        keys = {key for key in config(stack=stack) if key.startswith(NAMESPACE)}
        assert keys == {f"{NAMESPACE}:{key}" for key in stack_files.schema()}, stack


def test_dev_has_none_of_it() -> None:
    dev = _parse()
    assert (dev.network, dev.maintenance_window, dev.api_key_secret) == (None, None, None)
    assert not json.loads(config()[f"{NAMESPACE}:requireApiKey"])
    assert dev.device_access == "privileged"
