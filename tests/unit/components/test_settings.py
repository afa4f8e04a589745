"""What settings are refused, each with field, value, reason and fix, and what is allowed near it.

wrong_settings.txt has what a person may write into a stack's file and, after `>`, each problem that has to be named. Wrong values of
every declared setting come from the declarations (`trials.drills.settings_files`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pulumi
import pytest

from components.settings.formats import is_internet
from components.settings.network_ranges import NetworkRanges
from components.settings.problems import SettingsError, counted, nearest
from components.settings.reader import UNREAD, Setting
from components.settings.schema import schema_settings
from components.settings.secret_reference import SecretReference, parse_reference
from components.settings.sections import Settings
from components.settings.settings import load_stack, parse
from components.settings.value_types import parse_quantity
from tests.unit.program import API_KEY, NAMESPACE, config
from trials.drills.settings_files import WRONG, WRONG_POOL_VALUES

DIGEST = f"sha256:{'0' * 64}"

_TEXT = Path(__file__).with_name("wrong_settings.txt").read_text()
#: Lines of a stack's file, and the problems of these.
_CASES = [
    (lines.splitlines(), problems.removeprefix("> ").split("\n> "))
    for lines, problems in re.findall(r"((?:^[^>#\n].*\n)+)((?:^> .*\n)+)", _TEXT, re.MULTILINE)
]

#: A part of a setting -> what stands beside it in the file, each value as YAML; a part without a value takes its key away.
_BESIDE: dict[str, dict[str, str]] = {
    "acceleratorPools[0]": {"name": "v6e-1", "machineType": "ct6e-standard-1t", "minNodeCount": "1", "maxNodeCount": "2"},
    "acceleratorPools[1]": {"name": "l4-spot", "machineType": "g2-standard-4", "provisioning": "preemptible", "maxNodeCount": "2"},
    "acceleratorPools[2]": {"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": "2"},
    "network": {"nodeRange": "10.64.0.0/22", "podRange": "10.65.0.0/17", "serviceRange": "10.64.16.0/20"},
    "maintenanceWindow": {
        "startTime": '"2026-01-03T15:00:00Z"',
        "endTime": '"2026-01-03T23:00:00Z"',
        "recurrence": '"FREQ=WEEKLY;BYDAY=SA,SU"',
    },
}


def _file(lines: Iterable[str]) -> str:
    """A stack's file with some lines of its own."""
    found = {"gcp:project": "my-project", "requireApiKey": "false"}
    parts = {name: dict(parts) for name, parts in _BESIDE.items() if name.startswith("acceleratorPools")}
    extra = []
    for line in lines:
        key, _, value = re.match(r"([\w.:\[\]-]+?)(:)(?: (.*))?$", line).groups()  # type: ignore[union-attr]
        name, _, part = key.rpartition(".")
        if part and name:
            parts.setdefault(name, dict(_BESIDE.get(name, {})))[part] = value or ""
        elif key.startswith("acceleratorPools["):
            extra.append(value)
        else:
            found[key] = value or ""
    written = {name: "{" + ", ".join(f"{key}: {value}" for key, value in each.items() if value) + "}" for name, each in parts.items()}
    pools = [written.pop(name) for name in sorted(written) if name.startswith("acceleratorPools")]
    found = {"acceleratorPools": f"[{', '.join([*pools, *extra])}]", **written, **found}
    return "config:\n" + "".join(f"  {key}: {value}\n" for key, value in found.items())


def problems_of(lines: Iterable[str], folder: Path) -> list[str]:
    """The problems of a stack's file with some lines of its own, as a tool beside the engine says them."""
    file = folder / "Pulumi.dev.yaml"
    file.write_text(_file(lines))
    try:
        load_stack("dev", file=file)
    except SettingsError as error:
        return [str(each) for each in error.problems]
    return []


def _load(folder: Path, *lines: str) -> Settings:
    file = folder / "Pulumi.dev.yaml"
    file.write_text(_file(lines))
    return load_stack("dev", file=file)


@pytest.mark.parametrize(("lines", "expected"), _CASES, ids=["; ".join(lines)[:60] for lines, _ in _CASES])
def test_wrong_settings_are_refused_with_field_value_reason_and_fix(lines: list[str], expected: list[str], tmp_path: Path) -> None:
    assert problems_of(lines, tmp_path) == [each.rstrip("\n") for each in expected]
    for problem in expected:
        assert ". Fix: " in problem
        assert not re.search(r"\b(None|True|False)\b|v1:abc|hf_a|sk-|short-key", problem), problem


@pytest.mark.parametrize("setting", [each for each in schema_settings() if each.key in WRONG], ids=lambda each: str(each.key))
def test_wrong_value_of_each_declared_setting_is_refused(setting: Setting) -> None:
    assert len(WRONG[setting.key]) > 5
    for value in WRONG[setting.key]:
        with pytest.raises(SettingsError) as refused:
            parse(config({setting.key: value}), namespace=NAMESPACE, stack="dev")
        problems = [each for each in refused.value.problems if each.field.partition(".")[0] == setting.key]
        assert problems, f"{value!r}: {refused.value}"
        assert all(each.reason and each.fix for each in problems), value
        assert not (setting.secret and any(each.value is not None for each in problems)), value


@pytest.mark.parametrize("key", WRONG_POOL_VALUES)
def test_wrong_value_of_each_key_of_a_pool_is_refused(key: str, tmp_path: Path) -> None:
    for value in WRONG_POOL_VALUES[key]:
        found = problems_of([f"acceleratorPools[0].{key}: {'' if value is None else json.dumps(value)}".rstrip()], tmp_path)
        assert any(each.startswith(f"acceleratorPools[0].{key}: ") for each in found), value


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    lines = [
        "zone: us-central1-a", "clusterName: Inference", "model: Qwen2-1.5B", "replicas: two", "monitoring: yes", "modle: x",
        "acceleratorPools[0].name: 6e_1", "acceleratorPools[0].maxNodeCount: many", "acceleratorPools[1].accelerator: nvidia-a100",
    ]  # fmt: skip
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, *lines)
    assert {each.field for each in refused.value.problems} == {line.partition(": ")[0] for line in lines}
    assert str(refused.value).startswith("The settings of stack dev have 9 problems; nothing was created or changed.\n  - ")
    # Pulumi shows the problems without a traceback.
    assert isinstance(refused.value, pulumi.RunError)


# What is set, where it is then, and as what.
ALLOWED: list[tuple[list[str], Callable[[Settings], object], object]] = [
    ([], lambda found: [pool.initial_node_count for pool in found.accelerators.pools], [1, 0, 0]),
    ([], lambda found: [pool.gpu_driver_version for pool in found.accelerators.pools], [None, "LATEST", "LATEST"]),
    (["acceleratorPools[0].minNodeCount: 0"], lambda found: found.accelerators.pools[0].min_node_count, 0),
    (["acceleratorPools[0].minNodeCount: null"], lambda found: found.accelerators.pools[0].min_node_count, 0),
    (["acceleratorPools[0].diskSizeGb: null"], lambda found: found.accelerators.pools[0].disk_size_gb, None),
    (["acceleratorPools[0].diskSizeGb: 50", "gpuEphemeralStorageLimit: 10Gi"], lambda found: found.accelerators.pools[0].disk_size_gb, 50),
    (["region: us-south1", "zone: us-south1-ai1b"], lambda found: found.accelerators.pools[0].zones, ("us-south1-ai1b",)),
    (["replicas: 0x2"], lambda found: found.scaling.replicas, 2),
    (["replicas: 2.0"], lambda found: found.scaling.replicas, 2),
    (["monitoring: FALSE"], lambda found: found.monitoring.enabled, False),
    (["tpu-gpu-fungibility:model: a/b"], lambda found: found.server.model, "a/b"),
    (["tpu-gpu-fungibility:config:model: a/b"], lambda found: found.server.model, "a/b"),
    (["huggingFaceToken: {secure: v1:abc}"], lambda found: found.server.hugging_face_token, UNREAD),
    (["apiKey: {secure: v1:abc}", "requireApiKey: true"], lambda found: found.security.api_key, UNREAD),
    (["tpuBaseImage:", "imagesFrom: o/p/dev"], lambda found: found.images.base_images["tpu"], ""),
    (["tpuBaseImage:", f"images: {{tpu: docker.io/a/b:TPU@{DIGEST}}}"], lambda found: list(found.images.prebuilt), ["tpu"]),
    *(
        ([f"tpuBaseImage: {image}"], lambda found: found.images.base_images["tpu"], image)
        for image in (f"docker.io/vllm/vllm-tpu@{DIGEST}", f"localhost:5000/vllm:v1@{DIGEST}", "localhost/vllm:v1",
                      "docker.io/vllm/vllm-tpu:nightly-2e33fe419186c65a18da6668972d61d7bbc31564",
                      f"docker.io/vllm/vllm-tpu:nightly@{DIGEST}", "asia-northeast1-docker.pkg.dev/project/repository/vllm__tpu:1.0")
    ),
    *(
        ([f"acceleratorPools[0].secondaryBootDiskImage: {image}"], lambda found: found.accelerators.pools[0].secondary_boot_disk_image,
         image)
        for image in ("global/images/vllm-2026-11", "projects/images-project/global/images/vllm")
    ),
    (["gpuServerArguments: [--max-num-seqs, '8', --model-impl=auto, --tokenizer=ORG/NAME, --port-range=1]"],
        lambda found: found.server.arguments["gpu"],
        ("--max-num-seqs", "8", "--model-impl=auto", "--tokenizer=ORG/NAME", "--port-range=1")),
    (["maintenanceWindow.recurrence: FREQ=DAILY"], lambda found: found.cluster.maintenance_window is not None, True),
    # What the smallest node offers depends on disks and machines.
    (["gpuEphemeralStorageLimit: 43Gi"], lambda found: found.server.gpu_ephemeral_storage_limit, "43Gi"),
    (["gpuEphemeralStorageLimit: 60Gi", *(f"acceleratorPools[{index}].diskSizeGb: 200" for index in range(3))],
        lambda found: found.server.gpu_ephemeral_storage_limit, "60Gi"),
    (["memoryRequest: 12Gi", *(f"acceleratorPools[{index}].machineType: g2-standard-8" for index in (1, 2))],
        lambda found: found.server.memory_request, "12Gi"),
    # A server that not everybody reaches needs no key.
    *(
        (["requireApiKey: true", line], lambda found: found.security.require_api_key, True)
        for line in ("apiKeySecret: vllm-api-key", f"apiKey: {API_KEY}", "loadBalancerSourceRanges: [203.0.113.0/24]",
                     "loadBalancerSourceRanges: [10.0.0.0/8]", "internalLoadBalancer: true")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "found", "expected"), ALLOWED, ids=["; ".join(lines)[:60] for lines, *_ in ALLOWED])
def test_settings_are_allowed(lines: list[str], found: Callable[[Settings], object], expected: object, tmp_path: Path) -> None:
    assert found(_load(tmp_path, *lines)) == expected


def test_ten_pools_are_allowed_and_eleven_are_not(tmp_path: Path) -> None:
    pools = [f"{{name: {f'l{index}'.ljust(40, 'x')}, machineType: g2-standard-4, maxNodeCount: 2}}" for index in range(11)]
    assert len(_load(tmp_path, f"acceleratorPools: [{', '.join(pools[:10])}]").accelerators.pools) == 10
    (problem,) = problems_of([f"acceleratorPools: [{', '.join(pools)}]"], tmp_path)
    assert problem == "acceleratorPools: has 11 pools, more than 10. Fix: remove the ones of least priority."


def test_a_list_may_not_be_too_long(tmp_path: Path) -> None:
    names = ", ".join(f"projects/p/notificationChannels/{number}" for number in range(17))
    (problem,) = problems_of([f"notificationChannels: [{names}]"], tmp_path)
    assert problem == "notificationChannels: has 17 elements, more than the 16 that are allowed. Fix: remove some."


def test_a_stack_needs_a_key_unless_it_says_otherwise() -> None:
    with pytest.raises(SettingsError, match="requireApiKey"):
        parse(config({"requireApiKey": None}), namespace=NAMESPACE, stack="dev")


@pytest.mark.parametrize(
    ("text", "number"), [("1500m", 1.5), ("2", 2.0), ("5Gi", 5 * 2.0**30), ("1.5Gi", 1.5 * 2**30), ("43G", 43e9), ("512Mi", 2.0**29)]
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


@pytest.mark.parametrize(
    ("ranges", "internet"),
    [([], True), (["0.0.0.0/0"], True), (["203.0.113.0/24", "64.0.0.0/2"], True), (["10.0.0.0/8"], False), (["nonsense"], False)],
)
def test_the_internet_is_everybody_or_a_large_part_of_it(ranges: list[str], internet: bool) -> None:
    assert is_internet(ranges) is internet


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf/versions/3", SecretReference(project=None, secret="hf", version="3")),
        ("projects/p-1/secrets/h_F", SecretReference(project="p-1", secret="h_F", version="latest")),
        ("projects/p/secrets/hf/versions/0", None),
        ("", None),
    ],
)
def test_secrets_are_named_as_google_names_them_or_by_name(text: str, reference: SecretReference | None) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(("pods", "nodes", "most"), [("10.0.0.0/14", "10.8.0.0/28", 12), ("10.0.0.0/23", "10.8.0.0/20", 2)])
def test_a_network_has_room_for_as_many_nodes_as_both_of_its_ranges(pods: str, nodes: str, most: int) -> None:
    assert NetworkRanges(nodes=nodes, pods=pods, services="10.9.0.0/20").max_nodes == most


def test_fixes_name_few_and_count_well() -> None:
    assert nearest("x", ["b", "a"]) == "use one of b, a"
    assert nearest("replica", ["replicas", "region"]) == "did you mean replicas?"
    assert nearest(None, map(str, range(70)), "the page") == "use one such as 0, 1; the page lists all"
    assert (counted(1, "hour"), counted(2.5, "hour")) == ("1 hour", "2.5 hours")
