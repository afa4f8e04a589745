"""What settings are refused: each declared one by itself, with wrong values that come from its declaration, and those that do not go
together. The message of each problem names the field, the value, the reason and the fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockMonitor

from components.settings import stack_files
from components.settings.formats import is_internet
from components.settings.maintenance_window import MaintenanceWindow
from components.settings.network_ranges import NetworkRanges
from components.settings.problems import SettingsError
from components.settings.reader import Setting
from components.settings.schema import schema_settings
from components.settings.secret_reference import SecretReference, parse_reference
from components.settings.sections import Settings
from components.settings.settings import UNREAD, load_stack, parse
from components.settings.value_types import parse_quantity
from tests.unit.program import API_KEY, NAMESPACE, config, run_program, run_program_anew
from trials.drills.settings_files import WRONG, WRONG_POOL_VALUES

DIGEST = f"sha256:{'0' * 64}"
RANGES = {"nodeRange": "10.64.0.0/22", "podRange": "10.65.0.0/17", "serviceRange": "10.64.16.0/20"}
WINDOW = {
    "startTime": "2026-01-03T15:00:00Z",
    "endTime": "2026-01-03T23:00:00Z",
    "recurrence": "FREQ=WEEKLY;BYDAY=SA,SU",
}
KEY = "projects/p/locations/asia-northeast1/keyRings/r/cryptoKeys/k"


def _parse(*, stack: str = "dev", **overrides: Any) -> Settings:
    return parse(config(overrides, stack=stack), namespace=NAMESPACE, stack=stack)


def _refusal(**overrides: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        _parse(**overrides)
    return str(refused.value)


def _line(message: str, field: str) -> str:
    """The one line about a field."""
    (line,) = [each for each in message.splitlines() if each.startswith(f"  - {field}:")]
    return line


def _pools(first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The pools of the dev environment with changes to the TPU's and to the preemptible GPU's; None removes a key."""
    pools: list[dict[str, Any]] = json.loads(config()[f"{NAMESPACE}:acceleratorPools"])
    for pool, changes in zip(pools, (first or {}, second or {}), strict=False):
        pool.update(changes)
    return [{key: value for key, value in pool.items() if value is not None} for pool in pools]


def _with_disk_image(value: Any) -> list[dict[str, Any]]:
    return _pools({"secondaryBootDiskImage": value})


# What is set, the field of the one problem, and what its line says: value, reason and fix.
BAD: dict[str, tuple[dict[str, Any], str, tuple[str, str, str]]] = {
    "unknown machine type": ({"acceleratorPools": _pools({"machineType": "ct6e-standard-1"})}, "acceleratorPools[0].machineType",
        ('"ct6e-standard-1"', "is not a machine type with an accelerator", "did you mean ct6e-standard-1t?")),
    "missing machine type": ({"acceleratorPools": _pools({"machineType": None})}, "acceleratorPools[0].machineType",
        ("", "is missing", "g2-standard-4")),
    "accelerator that the machine does not carry": (
        {"acceleratorPools": _pools(None, {"accelerator": "nvidia-tesla-t4"})}, "acceleratorPools[1].accelerator",
        ('"nvidia-tesla-t4"', "is not what a g2-standard-4 carries", "use nvidia-l4")),
    "topology of another machine": ({"acceleratorPools": _pools({"tpuTopology": "2x2"})}, "acceleratorPools[0].tpuTopology",
        ('"2x2"', "is not the topology of one ct6e-standard-1t", "use 1x1")),
    "topology of a GPU": ({"acceleratorPools": _pools(None, {"tpuTopology": "1x1"})}, "acceleratorPools[1].tpuTopology",
        ('"1x1"', "has no TPU", "remove it")),
    "GPU driver of a TPU": ({"acceleratorPools": _pools({"gpuDriverVersion": "LATEST"})}, "acceleratorPools[0].gpuDriverVersion",
        ('"LATEST"', "without GPU", "remove it")),
    "unknown provisioning": ({"acceleratorPools": _pools(None, {"provisioning": "on-demnd"})}, "acceleratorPools[1].provisioning",
        ('"on-demnd"', "is not one of on-demand, spot, preemptible", "did you mean on-demand?")),
    "disk image by its URL": (
        {"acceleratorPools": _with_disk_image("https://www.googleapis.com/compute/v1/projects/p/global/images/i")},
        "acceleratorPools[0].secondaryBootDiskImage",
        ("compute/v1", "is not a disk image name", "give global/images/IMAGE")),
    "preloaded images without image streaming": (
        {"acceleratorPools": _with_disk_image("global/images/vllm"), "imageStreaming": False}, "imageStreaming",
        ("false", "keeps pool v6e-1 from its preloaded images", "set it to true")),
    "weights kept elsewhere than in the cache": (
        {"weightsCache": True, "gpuEphemeralStorageLimit": "38Gi", "tpuServerArguments": ["--download-dir=/data"]}, "tpuServerArguments",
        ('"--download-dir=/data"', "takes the weights past the cache", "set weightsCache to false")),
    "requests that leave the weights cache's sidecar no room": (
        {"weightsCache": True}, "gpuEphemeralStorageLimit",
        ('"43Gi"', "38.8Gi that a node of pool v6e-1 (ct6e-standard-1t) offers to pods beside the sidecar container of weightsCache",
        "request at most 38Gi")),
    "zone outside the region": ({"zone": "us-central1-a"}, "zone",
        ('"us-central1-a"', "is not a zone of region asia-northeast1", "use one such as asia-northeast1-b")),
    "pool's zone outside the region": (
        {"acceleratorPools": _pools({"zones": ["asia-northeast1-b", "us-central1-a"]})}, "acceleratorPools[0].zones",
        ('"us-central1-a"', "is not a zone of region asia-northeast1", "use one such as asia-northeast1-b")),
    "minimum above maximum": ({"acceleratorPools": _pools({"minNodeCount": 3, "initialNodeCount": 3})}, "acceleratorPools[0].minNodeCount",
        (" 3 ", "is above maxNodeCount 2", "raise maxNodeCount")),
    "initial above maximum": ({"acceleratorPools": _pools({"initialNodeCount": 3})}, "acceleratorPools[0].initialNodeCount",
        (" 3 ", "is outside minNodeCount 1 to maxNodeCount 2", "give a number from 1 to 2")),
    "initial below minimum": ({"acceleratorPools": _pools({"initialNodeCount": 0})}, "acceleratorPools[0].initialNodeCount",
        (" 0 ", "is outside minNodeCount 1 to maxNodeCount 2", "give a number from 1 to 2")),
    "maximum of no nodes": (
        {"acceleratorPools": _pools({"maxNodeCount": 0, "minNodeCount": 0, "initialNodeCount": 0})}, "acceleratorPools[0].maxNodeCount",
        (" 0 ", "leaves the pool without room", "remove the pool")),
    "duplicate name": ({"acceleratorPools": _pools(None, {"name": "v6e-1"})}, "acceleratorPools[1].name",
        ('"v6e-1"', "is the name of an earlier pool", "give each pool its own")),
    "missing name": ({"acceleratorPools": _pools({"name": None})}, "acceleratorPools[0].name",
        ("", "is missing", "use lower-case letters")),
    "long name": ({"acceleratorPools": _pools({"name": "a" * 41})}, "acceleratorPools[0].name",
        ('"' + "a" * 41 + '"', "has 41 characters, and GKE allows 40", "shorten it")),
    "name of the system pool": ({"acceleratorPools": _pools({"name": "system"})}, "acceleratorPools[0].name",
        ('"system"', "is the name of the cluster's own node pool", "choose another name")),
    "unknown key of a pool": ({"acceleratorPools": _pools({"machinetype": "x"})}, "acceleratorPools[0].machinetype",
        ('"x"', "is not a setting of a pool", "did you mean machineType?")),
    "unknown key without value": (
        {"acceleratorPools": [{**pool, "topology": None} for pool in _pools()[:1]]}, "acceleratorPools[0].topology",
        ("", "is not a setting of a pool", "did you mean tpuTopology?")),
    "pool that is no object": ({"acceleratorPools": [*_pools(), "l4"]}, "acceleratorPools[3]",
        ('"l4"', "is not a pool", "give an object with name, machineType and maxNodeCount")),
    "empty ladder": ({"acceleratorPools": []}, "acceleratorPools", ("[]", "has no pool, so nothing could serve", "give at least one pool")),
    "ladder that is no list": ({"acceleratorPools": {"name": "l4"}}, "acceleratorPools",
        ('{"name": "l4"}', "is not a list", "the best first")),
    "eleven pools": ({"acceleratorPools": [{**_pools()[1], "name": f'l4-{index}'} for index in range(11)]}, "acceleratorPools",
        ("has 11 pools", "more than 10", "remove the ones of least priority")),
    "TPUs of different topologies": (
        {"acceleratorPools": [*_pools(), {"name": "v6e-4", "machineType": "ct6e-standard-4t", "maxNodeCount": 2}]}, "acceleratorPools",
        ('"ct6e-standard-4t"', "of pool v6e-4 differs in TPU generation and topology", "use machine types with the same")),
    "GPUs of different number": (
        {"acceleratorPools": [*_pools(), {"name": "l4x2", "machineType": "g2-standard-24", "maxNodeCount": 2}]}, "acceleratorPools",
        ('"g2-standard-24"', "of pool l4x2 differs in number of GPUs", "use machine types with the same number of GPUs")),
    "pool that no image serves": ({"tpuBaseImage": ""}, "tpuBaseImage",
        ('""', "no other image serves pool v6e-1 (ct6e-standard-1t)", "give the base of the TPU image, or remove the pool")),
    "malformed image": ({"gpuBaseImage": "vllm openai:v1"}, "gpuBaseImage",
        ('"vllm openai:v1"', "is not an image reference with a registry", "give REGISTRY/REPOSITORY:TAG")),
    "latest image": ({"gpuBaseImage": "docker.io/vllm/vllm-openai:latest"}, "gpuBaseImage",
        ('"docker.io/vllm/vllm-openai:latest"', "does not say which version", "add a tag other than latest")),
    "image of an unknown accelerator": ({"images": {"gpuu": f'docker.io/a/b@{DIGEST}'}}, "images.gpuu",
        (f'"docker.io/a/b@{DIGEST}"', "is for gpuu, which is not an accelerator", "did you mean gpu?")),
    "prebuilt image by tag": ({"images": {"gpu": "docker.io/a/b:1"}}, "images.gpu",
        ('"docker.io/a/b:1"', "is not an image reference by digest", "give REGISTRY/REPOSITORY@sha256:DIGEST")),
    "prebuilt images that are a list": ({"images": ["docker.io/a/b"]}, "images",
        ('["docker.io/a/b"]', "is not a mapping", "give accelerator: REGISTRY/REPOSITORY@sha256:DIGEST")),
    "stack without its organisation": ({"imagesFrom": "tpu-gpu-fungibility/prod"}, "imagesFrom",
        ('"tpu-gpu-fungibility/prod"', "is not a full stack name", "give ORGANISATION/PROJECT/STACK")),
    "missing project": ({"gcp:project": None}, "gcp:project", ("", "is missing", "pulumi config set gcp:project VALUE")),
    "project by number": ({"gcp:project": "123456789012"}, "gcp:project",
        ("123456789012", "is not a project ID", "not the name or the number")),
    "malformed region": ({"region": "Tokyo", "zone": "Tokyo-b"}, "region",
        ('"Tokyo"', "is not a region of Google Cloud", "give one such as asia-northeast1")),
    "class of GKE's own": ({"computeClassName": "gke-fallback"}, "computeClassName",
        ('"gke-fallback"', "begins with gke, which GKE refuses", "choose another name")),
    "replicas that fill every node": ({"replicas": 6}, "replicas",
        ("6", "a rolling update brings one more, and all enabled accelerator pools together may have 6 nodes", "give at most 5")),
    "a single node": ({"acceleratorPools": [{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 1}]}, "replicas",
        ("1", "may have 1 nodes", "raise a pool's maxNodeCount")),
    "replicas that fill what is enabled": (
        {"replicas": 2, "acceleratorPools": [_pools()[0], *({**pool, "enabled": False} for pool in _pools()[1:])]}, "replicas",
        ("2", "all enabled accelerator pools together may have 2 nodes", "give at most 1")),
    "an autoscaler that fills every node": ({"maxReplicas": 6}, "maxReplicas", ("6", "together may have 6 nodes", "give at most 5")),
    "an autoscaler with nothing to scale": ({"replicas": 3, "maxReplicas": 3}, "maxReplicas",
        ("3", "is not above the 3 of replicas", "give 0 for a fixed number")),
    "a server too old to drain itself": ({"gpuBaseImage": "docker.io/vllm/vllm-openai:v0.17.1"}, "gpuServerDrains",
        ("true", "would refuse --shutdown-timeout", "give false")),
    "a grace period that a network policy takes whole": (
        {"terminationGracePeriodSeconds": 20, "networkPolicy": True}, "terminationGracePeriodSeconds",
        ("20", "requests come in for 30 s after a pod's end has begun", "give at least 40")),
    "every pool disabled": ({"acceleratorPools": [{**pool, "enabled": False} for pool in _pools()]}, "acceleratorPools[].enabled",
        ("false", "so nothing could serve", "leave one pool enabled")),
    "unknown release channel": ({"releaseChannel": "REGULR"}, "releaseChannel",
        ('"REGULR"', "is not one of RAPID, REGULAR, STABLE, EXTENDED", "did you mean REGULAR?")),
    "cpu that no small node has": ({"cpuRequest": "1970m"}, "cpuRequest",
        ('"1970m"', "for each of 2 containers is more than the 3.92 that a node of pool l4-spot", "request at most 1960m")),
    "memory that no small node has": ({"memoryRequest": "7Gi"}, "memoryRequest",
        ('"7Gi"', "for each of 2 containers is more than the 12.9Gi that a node of pool l4-spot", "request at most 6Gi")),
    "storage that no boot disk has": ({"gpuEphemeralStorageLimit": "60Gi"}, "gpuEphemeralStorageLimit",
        ('"60Gi"', "is more than the 43.8Gi that a node of pool v6e-1", "request at most 43Gi")),
    "argument of the program's own": ({"gpuServerArguments": ["--port=9000"]}, "gpuServerArguments",
        ('"--port"', "is set by the program itself", "remove it")),
    "a zone twice": ({"acceleratorPools": _pools({"zones": ["asia-northeast1-b", "asia-northeast1-b"]})}, "acceleratorPools[0].zones",
        ('"asia-northeast1-b"', "is listed twice", "remove one")),
    "empty zone": ({"zone": "", "acceleratorPools": _pools({"zones": ["asia-northeast1-b"]}, {"zones": ["asia-northeast1-b"]})[:2]}, "zone",
        ('""', "is not a zone of region asia-northeast1", "use one such as asia-northeast1-b")),
    "nothing where pools should be": ({"acceleratorPools": "null"}, "acceleratorPools", ('"null"', "is not a list", "give a YAML list")),
    "system machine that nobody knows": ({"systemMachineType": "e2-standard-3"}, "systemMachineType",
        ('"e2-standard-3"', "is not a machine type without accelerator", "did you mean e2-standard-32?")),
    "memory in thousandths of a byte": ({"memoryRequest": "512m"}, "memoryRequest",
        ('"512m"', "is 0.512 bytes", "give one such as 5Gi or 512Mi")),
    "storage that a disk without room has not": (
        {"gpuEphemeralStorageLimit": "5Gi", "weightsCache": True, "acceleratorPools": _pools(None, {"diskSizeGb": 10})},
        "gpuEphemeralStorageLimit",
        ('"5Gi"', "is more than the 0.0Gi", "give the pool a larger machine or disk")),
    "range without its length": ({"loadBalancerSourceRanges": ["203.0.113.7"]}, "loadBalancerSourceRanges",
        ('"203.0.113.7"', "is not an IPv4 range (written 203.0.113.7/32 in CIDR notation)", "give CIDR notation")),
    "range with a mask": ({"loadBalancerSourceRanges": ["203.0.113.0/255.255.255.0"]}, "loadBalancerSourceRanges",
        ("255.255.255.0", "written 203.0.113.0/24 in CIDR notation", "give CIDR notation")),
    "a range twice": ({"loadBalancerSourceRanges": ["203.0.113.0/24", "203.0.113.0/24"]}, "loadBalancerSourceRanges",
        ('"203.0.113.0/24"', "is listed twice", "remove one")),
    "argument of the program's own with underscores": ({"gpuServerArguments": ["--tensor_parallel_size=2"]}, "gpuServerArguments",
        ('"--tensor_parallel_size"', "is set by the program itself", "`acceleratorPools` decide it")),
    "argument of the program's own by its beginning": ({"tpuServerArguments": ["--max-model=1"]}, "tpuServerArguments",
        ('"--max-model"', "is set by the program itself", "`maxModelLen` decides it")),
    "another name of the model": ({"gpuServerArguments": ["--served-model-name", "m"]}, "gpuServerArguments",
        ('"--served-model-name"', "is set by the program itself", "clients ask for the output `model`")),
    "argument that no protocol carries": ({"gpuServerArguments": ['--seed=\ud800']}, "gpuServerArguments",
        ('\\ud800', "is not a command line argument", "what cannot be printed")),
    "option and value in one element": ({"gpuServerArguments": ["--max-num-seqs 16"]}, "gpuServerArguments",
        ('"--max-num-seqs 16"', "has a space in its option's name", "write --OPTION=VALUE")),
    "dash of a word processor": ({"gpuServerArguments": ["\N{EM DASH}seed=1"]}, "gpuServerArguments",
        ("seed=1", "begins with a dash that is no hyphen", "write --")),
    "more engines than chips": ({"gpuServerArguments": ["--data-parallel-size=2"]}, "gpuServerArguments",
        ('"--data-parallel-size"', "is set by the program itself", "tensor parallelism has every chip")),
    "value too many": ({"gpuServerArguments": ["--seed", "0", "8"]}, "gpuServerArguments",
        ('"8"', "has no option before it that takes it", "write --OPTION=VALUE")),
    "driver too old for CUDA 13": ({"acceleratorPools": _pools(None, {"gpuDriverVersion": "DEFAULT"})},
        "acceleratorPools[1].gpuDriverVersion", ('"DEFAULT"', "is a driver older than the 580", "give LATEST, or a gpuBaseImage")),
    "revision that git cannot have": ({"modelRevision": "v1..2"}, "modelRevision",
        ('"v1..2"', "is not a revision", "give a commit's 40 hexadecimal digits")),
    "value without its option": ({"gpuServerArguments": ["--seed=0", "8"]}, "gpuServerArguments",
        ('"8"', "has no option before it", "write --OPTION=VALUE")),
    "model that Hugging Face cannot have": ({"model": "Qwen/Qwen2--1.5B"}, "model",
        ('"Qwen/Qwen2--1.5B"', "is not a Hugging Face model", "give ORGANISATION/NAME")),
    "images from the stack itself": ({"imagesFrom": "organization/tpu-gpu-fungibility/dev"}, "imagesFrom",
        ("/dev", "is this very stack", "name the stack that builds them")),
    "more channels than a policy has": (
        {"notificationChannels": [f'projects/p/notificationChannels/{number}' for number in range(17)]}, "notificationChannels",
        ("17", "is more channels than the 16", "remove some")),
    "unknown setting": ({"modle": "Qwen/Qwen2-1.5B"}, "modle", ("", "is not a setting of this program", "did you mean model?")),
    "missing ladder": ({"acceleratorPools": None}, "acceleratorPools", ("", "is missing", "pulumi config set acceleratorPools VALUE")),
    "missing setting": ({"model": None}, "model", ("", "is missing", "pulumi config set model VALUE")),
    "notification channel by its display name": ({"notificationChannels": ["on-call"]}, "notificationChannels",
        ('"on-call"', "is not the name of a notification channel", "give projects/PROJECT/notificationChannels/NUMBER")),
    "server open to the internet": ({"requireApiKey": True}, "requireApiKey",
        ("true", "everyone on the internet can reach", "set apiKeySecret or apiKey, or name loadBalancerSourceRanges")),
    "ranges that are the internet": ({"requireApiKey": True, "loadBalancerSourceRanges": ["0.0.0.0/1", "128.0.0.0/1"]}, "requireApiKey",
        ("true", "everyone on the internet can reach", "`requireApiKey: false` leaves the server open")),
    "secret of no such form": ({"apiKeySecret": "projects/p/keys/k"}, "apiKeySecret",
        ('"projects/p/keys/k"', "is not the name of a Secret Manager secret", "give NAME or projects/PROJECT/secrets/NAME")),
    "token in two places": ({"huggingFaceToken": "hf_a-token", "huggingFaceTokenSecret": "hf"}, "huggingFaceTokenSecret",
        ('"hf"', "and so is huggingFaceToken", "`pulumi config rm` one of the two")),
    "network range that is the machine's own": ({"network": {**RANGES, "nodeRange": "127.0.0.0/20"}}, "network.nodeRange",
        ('"127.0.0.0/20"', "is not a private range", "take one of 10.0.0.0/8")),
    "range of Services that GKE does not take": ({"network": {**RANGES, "serviceRange": "10.64.16.0/28"}}, "network.serviceRange",
        ('"10.64.16.0/28"', "GKE takes /16 to /27", "give one such as 10.64.16.0/20")),
    "time that Google does not read": ({"maintenanceWindow": {**WINDOW, "startTime": "2026-1-3T15:0:0Z"}}, "maintenanceWindow.startTime",
        ('"2026-1-3T15:0:0Z"', "is not a time in UTC", "in quotes")),
    "network without a range": ({"network": {key: RANGES[key] for key in ("nodeRange", "podRange")}}, "network.serviceRange",
        ("", "is missing", "give CIDR notation")),
    "misspelt range": ({"network": {**RANGES, "podsRange": "10.80.0.0/16"}}, "network.podsRange",
        ('"10.80.0.0/16"', "is not a key of a network", "did you mean podRange?")),
    "network that is a text": ({"network": '"default"'}, "network", ('"default"', "is not a mapping", "or {} for the default network")),
    "public range": ({"network": {**RANGES, "serviceRange": "8.8.0.0/20"}}, "network.serviceRange",
        ('"8.8.0.0/20"', "is not a private range", "10.0.0.0/8")),
    "overlapping ranges": ({"network": {**RANGES, "serviceRange": "10.65.0.0/20"}}, "network.serviceRange",
        ('"10.65.0.0/20"', "overlaps podRange 10.65.0.0/17", "addresses of its own")),
    "pods' range for too few nodes": ({"network": {**RANGES, "podRange": "10.65.0.0/22"}}, "network",
        ("10.65.0.0/22", "has addresses for 4 nodes, and all pools together may have 9", "take a longer podRange")),
    "ranges for an address that is off": (
        {"controlPlaneEndpoint": "dns", "controlPlaneSourceRanges": ["203.0.113.0/24"]}, "controlPlaneSourceRanges",
        ("203.0.113.0/24", "has no effect", "or set controlPlaneEndpoint to ip")),
    "namespaces without a policy": ({"clientNamespaces": ["chat"]}, "clientNamespaces",
        ("chat", "has no effect without networkPolicy", "set networkPolicy to true")),
    "request of devices of both kinds": ({"deviceAccess": "request"}, "deviceAccess",
        ('"request"', "the pools have gpu and tpu", "set it to auto or privileged")),
    "window without an end": ({"maintenanceWindow": {**WINDOW, "endTime": None}}, "maintenanceWindow.endTime",
        ("", "is missing", "in quotes")),
    "recurrence of hours": ({"maintenanceWindow": {**WINDOW, "recurrence": "FREQ=HOURLY"}}, "maintenanceWindow.recurrence",
        ('"FREQ=HOURLY"', "is not a recurrence of days", "FREQ=DAILY")),
    "short window": ({"maintenanceWindow": {**WINDOW, "endTime": "2026-01-03T16:00:00Z"}}, "maintenanceWindow.endTime",
        ('"2026-01-03T16:00:00Z"', "is 1 hours after startTime, and GKE wants 4 to 24", "move one of the two")),
    "too little time for maintenance": (
        {"maintenanceWindow": {**WINDOW, "recurrence": "FREQ=WEEKLY;BYDAY=SA"}}, "maintenanceWindow.recurrence",
        ('"FREQ=WEEKLY;BYDAY=SA"', "gives 32 hours in 32 days", "add days")),
    "misspelt key of the window": ({"maintenanceWindow": {**WINDOW, "recurence": "FREQ=DAILY"}}, "maintenanceWindow.recurence",
        ('"FREQ=DAILY"', "is not a key of a maintenance window", "did you mean recurrence?")),
    "key of another region": ({"secretsEncryptionKey": KEY.replace("asia-northeast1", "global")}, "secretsEncryptionKey",
        ("locations/global", "wants a key in the cluster's region asia-northeast1", "name a key of asia-northeast1")),
    "label in capitals": ({"labels": {"Team": "inference"}}, "labels.Team",
        ('"inference"', "is not a valid label name", "lower-case letters")),
    "label of Google's": ({"labels": {"goog-team": "inference"}}, "labels.goog-team",
        ('"inference"', "begins with goog", "choose another name")),
    "value of a label that is a number": ({"labels": {"cost-centre": 4711}}, "labels.cost-centre",
        (" 4711 ", "is not a valid label value", "in quotes")),
}  # fmt: skip


@pytest.mark.parametrize("setting", [each for each in schema_settings() if each.key in WRONG], ids=lambda each: str(each.key))
def test_wrong_value_of_each_declared_setting_is_refused_with_field_value_reason_and_fix(setting: Setting) -> None:
    assert WRONG[setting.key]
    for value in WRONG[setting.key]:
        with pytest.raises(SettingsError) as refused:
            _parse(**{setting.key: value})
        problems = [each for each in refused.value.problems if each.field.partition(".")[0] == setting.key]
        assert problems, f"{value!r}: {refused.value}"
        for problem in problems:
            assert problem.reason, value
            assert problem.fix, value
            shown = problem.value is not None
            assert not (shown and setting.secret), value
            assert shown or setting.secret or problem.field != setting.key or problem.reason == "is missing", value


@pytest.mark.parametrize("key", WRONG_POOL_VALUES)
def test_wrong_value_of_each_key_of_a_pool_is_refused(key: str) -> None:
    for value in WRONG_POOL_VALUES[key]:
        message = _refusal(acceleratorPools=_pools({key: value}))
        assert f"  - acceleratorPools[0].{key}: " in message, value


@pytest.mark.parametrize(("overrides", "field", "parts"), BAD.values(), ids=BAD)
def test_bad_setting_is_refused_with_field_value_reason_and_fix(overrides: dict[str, Any], field: str, parts: tuple[str, str, str]) -> None:
    value, reason, fix = parts
    message = _refusal(**overrides)
    told, separator, advice = _line(message, field).partition(". Fix: ")
    assert separator
    assert value in told.removeprefix(f"  - {field}:")
    assert reason in told
    assert fix in advice
    assert "one problem" in message, message


def test_all_problems_come_at_once() -> None:
    message = _refusal(
        **{"gcp:project": None},
        zone="us-central1-a",
        clusterName="Inference",
        model="Qwen2-1.5B",
        servicePort=0,
        tpuBaseImage="",
        modle="x",
        acceleratorPools=_pools({"name": "6e_1", "initialNodeCount": 9}, {"accelerator": "nvidia-a100"}),
    )
    for field in (
        "gcp:project",
        "zone",
        "clusterName",
        "model",
        "servicePort",
        "modle",
        "acceleratorPools[0].name",
        "acceleratorPools[0].initialNodeCount",
        "acceleratorPools[1].accelerator",
    ):
        assert _line(message, field)
    assert "nothing was created or changed" in message
    assert "stack dev" in message


def test_value_under_an_unknown_key_is_not_shown_since_it_may_be_a_secret() -> None:
    message = _refusal(huggingfaceToken="hf_secret-under-a-wrong-name")
    assert "did you mean huggingFaceToken?" in _line(message, "huggingfaceToken")
    assert "hf_secret" not in message


def test_key_among_arguments_is_refused_and_not_shown() -> None:
    message = _refusal(gpuServerArguments=["--api_key=sk-that-nobody-may-see"])
    assert "`apiKey` or `apiKeySecret` gives it" in _line(message, "gpuServerArguments")
    assert "sk-" not in message


def test_a_value_after_its_option_and_longer_names_than_the_program_s_own_are_allowed() -> None:
    arguments = ["--max-num-seqs", "8", "--model-impl=auto", "--port-range=1", "--enforce-eager"]
    assert _parse(gpuServerArguments=arguments).server.arguments["gpu"] == tuple(arguments)


@pytest.mark.parametrize(("field", "value"), [("huggingFaceToken", "hf_a token"), ("apiKey", "short-key")])
def test_secret_that_no_header_carries_stops_the_program_and_is_not_shown(field: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        run_program({field: value})
    assert _line(str(refused.value), field)
    assert value not in str(refused.value)


def test_bad_settings_stop_the_program_before_the_first_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[str] = []
    register: Callable[[MockMonitor, Any], Any] = MockMonitor.RegisterResource

    def recorded(monitor: MockMonitor, request: Any) -> Any:
        registered.append(request.type)
        return register(monitor, request)

    monkeypatch.setattr(MockMonitor, "RegisterResource", recorded)
    with pytest.raises(SettingsError):
        run_program_anew({"model": "Qwen2-1.5B"})
    assert [each for each in registered if each != "pulumi:pulumi:Stack"] == []
    run_program_anew()
    assert "gcp:container/cluster:Cluster" in registered


def test_pulumi_shows_the_problems_without_a_traceback() -> None:
    assert issubclass(SettingsError, pulumi.RunError)


def test_dev_settings_are_the_walkthrough_s() -> None:
    settings = _parse()
    assert [
        (
            pool.name,
            pool.machine_type,
            pool.provisioning,
            pool.initial_node_count,
            pool.min_node_count,
            pool.max_node_count,
        )
        for pool in settings.accelerators.pools
    ] == [
        ("v6e-1", "ct6e-standard-1t", "on-demand", 1, 1, 2),
        ("l4-spot", "g2-standard-4", "preemptible", 1, 0, 2),
        ("l4", "g2-standard-4", "on-demand", 1, 1, 2),
    ]
    assert {pool.zones for pool in settings.accelerators.pools} == {("asia-northeast1-b",)}
    assert {pool.gpu_driver_version for pool in settings.accelerators.pools[1:]} == {"LATEST"}
    assert settings.place.region == "asia-northeast1"
    assert settings.cluster.name == "tpu-gpu-fungibility"
    assert settings.accelerators.compute_class_name == "vllm-fallback"
    assert settings.server.model == "Qwen/Qwen2-1.5B"


def test_a_pool_needs_only_a_name_a_machine_type_and_a_maximum() -> None:
    (pool,) = _parse(acceleratorPools=[{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 3}]).accelerators.pools
    assert (pool.provisioning, pool.gpu_driver_version) == ("on-demand", "LATEST")
    assert (pool.initial_node_count, pool.min_node_count, pool.max_node_count) == (0, 0, 3)
    assert pool.zones == ("asia-northeast1-b",)


def test_zero_nodes_are_a_number_and_not_a_missing_value() -> None:
    pool = _parse(acceleratorPools=_pools({"minNodeCount": 0, "initialNodeCount": 0})).accelerators.pools[0]
    assert (pool.min_node_count, pool.initial_node_count) == (0, 0)


def test_initial_count_is_the_minimum_unless_given() -> None:
    pool = _parse(acceleratorPools=_pools({"minNodeCount": 2, "initialNodeCount": None})).accelerators.pools[0]
    assert pool.initial_node_count == 2


def test_ten_pools_and_names_of_forty_characters_are_allowed() -> None:
    pools = [{**_pools()[1], "name": f"l{index}".ljust(40, "x")} for index in range(10)]
    assert len(_parse(acceleratorPools=pools, clusterName="c" * 40).accelerators.pools) == 10


@pytest.mark.parametrize("prebuilt", [{"images": {"tpu": f"docker.io/a/b:TPU@{DIGEST}"}}, {"imagesFrom": "o/p/dev"}])
def test_base_of_an_image_that_is_not_built_may_be_empty(prebuilt: dict[str, Any]) -> None:
    settings = _parse(tpuBaseImage="", **prebuilt)
    assert settings.images.prebuilt == prebuilt.get("images", {})
    assert settings.images.prebuilt_from == prebuilt.get("imagesFrom", "")


def test_image_of_an_accelerator_that_no_pool_has_may_be_empty() -> None:
    settings = _parse(acceleratorPools=_pools()[1:], tpuBaseImage="")
    assert settings.images.base_images["tpu"] == ""


@pytest.mark.parametrize(
    "image",
    [
        "docker.io/vllm/vllm-tpu@sha256:" + "0" * 64,
        "localhost:5000/vllm:v1@sha256:" + "0" * 64,
        "asia-northeast1-docker.pkg.dev/project/repository/vllm__tpu:1.0",
    ],
)
def test_images_by_tag_or_digest_of_any_registry_are_allowed(image: str) -> None:
    assert _parse(tpuBaseImage=image).images.base_images["tpu"] == image


@pytest.mark.parametrize("image", ["global/images/vllm-2026-11", "projects/images-project/global/images/vllm"])
def test_disk_images_of_the_own_and_of_another_project_are_allowed(image: str) -> None:
    pools = _parse(acceleratorPools=_with_disk_image(image)).accelerators.pools
    assert [pool.secondary_boot_disk_image for pool in pools] == [image, None, None]


def test_storage_that_fits_without_a_sidecar_is_allowed_without_one() -> None:
    assert _parse(gpuEphemeralStorageLimit="43Gi").server.gpu_ephemeral_storage_limit == "43Gi"


def test_a_larger_boot_disk_makes_room_for_more_storage() -> None:
    pools = [{**pool, "diskSizeGb": 200} for pool in _pools()]
    assert _parse(acceleratorPools=pools, gpuEphemeralStorageLimit="60Gi").server.gpu_ephemeral_storage_limit == "60Gi"


def test_larger_machines_make_room_for_larger_requests() -> None:
    pools = _pools()
    pools = [pools[0], *({**pool, "machineType": "g2-standard-8"} for pool in pools[1:])]
    settings = _parse(acceleratorPools=pools, cpuRequest="3", memoryRequest="12Gi")
    assert (settings.server.cpu_request, settings.server.memory_request) == ("3", "12Gi")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1500m", 1.5), ("2", 2.0), ("5Gi", 5 * 2.0**30), ("1.5Gi", 1.5 * 2**30), ("43G", 43e9), ("512Mi", 2.0**29)],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


def test_text_that_is_no_quantity_has_no_number() -> None:
    with pytest.raises(ValueError, match="5 GB"):
        parse_quantity("5 GB")


@pytest.mark.parametrize("key", ["tiny-secret", "with a space in the middle", "länger-als-sechzehn-zeichen"])
def test_a_key_that_could_be_guessed_or_sent_by_no_client_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        _parse(apiKey=key)
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
    assert _parse(apiKey=API_KEY, requireApiKey=True).security.api_key == API_KEY
    _parse(apiKey=UNREAD, requireApiKey=True)


def test_a_stack_needs_a_key_unless_it_says_otherwise() -> None:
    with pytest.raises(SettingsError, match="requireApiKey"):
        _parse(requireApiKey=stack_files.schema()["requireApiKey"]["default"])


def test_an_encrypted_key_counts_where_only_the_engine_can_read_it(tmp_path: Path) -> None:
    text = stack_files.stack_file("prod").read_text().replace("apiKeySecret: vllm-api-key", "apiKey: {secure: v1:abc}")
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(text.replace("[203.0.113.0/24]", "[]"))
    loaded = load_stack("prod", {"gcp:project": "my-project"}, file=file)
    assert loaded.security.api_key == UNREAD
    with pytest.raises(SettingsError, match="requireApiKey"):
        load_stack("prod", {"gcp:project": "my-project", "loadBalancerSourceRanges": [], "apiKeySecret": ""})


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
    assert _parse(maintenanceWindow=window).cluster.maintenance_window == MaintenanceWindow(
        start=window["startTime"], end=window["endTime"], recurrence="FREQ=DAILY"
    )


@pytest.mark.parametrize(("pods", "nodes", "most"), [("10.0.0.0/14", "10.8.0.0/28", 12), ("10.0.0.0/23", "10.8.0.0/20", 2)])
def test_a_network_has_room_for_as_many_nodes_as_both_of_its_ranges(pods: str, nodes: str, most: int) -> None:
    assert NetworkRanges(nodes=nodes, pods=pods, services="10.9.0.0/20").max_nodes == most


def test_prod_settings_are_the_hardened_ones() -> None:
    prod = _parse(stack="prod")
    assert prod.cluster.deletion_protection
    assert prod.network.ranges == NetworkRanges(nodes="10.64.0.0/22", pods="10.65.0.0/17", services="10.64.16.0/20")
    assert (prod.network.control_plane_endpoint, prod.network.network_policy, prod.security.binary_authorization) == ("dns", True, True)
    assert prod.security.api_key_secret == SecretReference(project=None, secret="vllm-api-key", version="latest")
    assert {pool.provisioning for pool in prod.accelerators.pools} == {"on-demand", "spot"}
    assert prod.scaling.replicas > 1
    assert prod.place.labels["environment"] == "prod"
    # Nobody is let in before somebody says who.
    assert not is_internet(prod.network.load_balancer_source_ranges)


def test_what_differs_between_dev_and_prod_is_settings() -> None:
    for stack in ("dev", "prod"):
        keys = {key for key in config(stack=stack) if key.startswith(NAMESPACE)}
        assert keys == {f"{NAMESPACE}:{key}" for key in stack_files.schema()}, stack


def test_dev_has_none_of_it() -> None:
    dev = _parse()
    assert (dev.network.ranges, dev.cluster.maintenance_window, dev.security.api_key_secret) == (None, None, None)
    assert not json.loads(config()[f"{NAMESPACE}:requireApiKey"])
