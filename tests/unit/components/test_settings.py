"""What settings are refused, and that the message of each names the field, the value, the reason and the fix."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pulumi
import pytest
from pulumi.runtime.mocks import MockMonitor

from components.settings.problems import SettingsError
from components.settings.settings import MAX_POOLS_VARIABLE, Settings, parse, parse_quantity
from tests.unit.program import NAMESPACE, config, run_program

DIGEST = f"sha256:{'0' * 64}"


def _parse(**overrides: Any) -> Settings:
    return parse(config(overrides), namespace=NAMESPACE, stack="dev", hugging_face_token="")


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


def _numbered_pools(count: int) -> str:
    first = _pools()[0]
    return json.dumps([{**first, "name": f"pool-{index}"} for index in range(count)])


def _with_disk_image(value: Any) -> list[dict[str, Any]]:
    return _pools({"secondaryBootDiskImage": value})


# What is set, the field of the one problem, and what its line says: value, reason and fix.
BAD: dict[str, tuple[dict[str, Any], str, tuple[str, str, str]]] = {
    "unknown machine type": (
        {"acceleratorPools": _pools({"machineType": "ct6e-standard-1"})},
        "acceleratorPools[0].machineType",
        ('"ct6e-standard-1"', "is not a machine type with an accelerator", "did you mean ct6e-standard-1t?"),
    ),
    "missing machine type": (
        {"acceleratorPools": _pools({"machineType": None})},
        "acceleratorPools[0].machineType",
        ("", "is missing", "g2-standard-4"),
    ),
    "accelerator that the machine does not carry": (
        {"acceleratorPools": _pools(None, {"accelerator": "nvidia-tesla-t4"})},
        "acceleratorPools[1].accelerator",
        ('"nvidia-tesla-t4"', "is not what a g2-standard-4 carries", "use nvidia-l4"),
    ),
    "topology of another machine": (
        {"acceleratorPools": _pools({"tpuTopology": "2x2"})},
        "acceleratorPools[0].tpuTopology",
        ('"2x2"', "is not the topology of one ct6e-standard-1t", "use 1x1"),
    ),
    "topology of a GPU": (
        {"acceleratorPools": _pools(None, {"tpuTopology": "1x1"})},
        "acceleratorPools[1].tpuTopology",
        ('"1x1"', "has no TPU", "remove it"),
    ),
    "GPU driver of a TPU": (
        {"acceleratorPools": _pools({"gpuDriverVersion": "LATEST"})},
        "acceleratorPools[0].gpuDriverVersion",
        ('"LATEST"', "without GPU", "remove it"),
    ),
    "unknown GPU driver": (
        {"acceleratorPools": _pools(None, {"gpuDriverVersion": "LASTEST"})},
        "acceleratorPools[1].gpuDriverVersion",
        ('"LASTEST"', "is not one of DEFAULT, LATEST", "did you mean LATEST?"),
    ),
    "unknown provisioning": (
        {"acceleratorPools": _pools(None, {"provisioning": "on-demnd"})},
        "acceleratorPools[1].provisioning",
        ('"on-demnd"', "is not one of on-demand, spot, preemptible", "did you mean on-demand?"),
    ),
    "disk image by its URL": (
        {"acceleratorPools": _with_disk_image("https://www.googleapis.com/compute/v1/projects/p/global/images/i")},
        "acceleratorPools[0].secondaryBootDiskImage",
        ("compute/v1", "is not a disk image's name", "give global/images/IMAGE"),
    ),
    "disk image by its bare name": (
        {"acceleratorPools": _with_disk_image("vllm-images")},
        "acceleratorPools[0].secondaryBootDiskImage",
        ('"vllm-images"', "is not a disk image's name", "give global/images/IMAGE"),
    ),
    "preloaded images without image streaming": (
        {"acceleratorPools": _with_disk_image("global/images/vllm"), "imageStreaming": False},
        "imageStreaming",
        ("false", "keeps pool v6e-1 from its preloaded images", "set it to true"),
    ),
    "image streaming neither on nor off": (
        {"imageStreaming": "sometimes"},
        "imageStreaming",
        ('"sometimes"', "is neither true nor false", "give true or false"),
    ),
    "weights cache neither on nor off": (
        {"weightsCache": "gs://bucket"},
        "weightsCache",
        ('"gs://bucket"', "is neither true nor false", "give true or false"),
    ),
    "XLA cache neither on nor off": (
        {"xlaCache": "/data"},
        "xlaCache",
        ('"/data"', "is neither true nor false", "give true or false"),
    ),
    "weights kept elsewhere than in the cache": (
        {"weightsCache": True, "tpuServerArguments": ["--download-dir=/data"]},
        "tpuServerArguments",
        ('"--download-dir=/data"', "takes the weights past the cache", "set weightsCache to false"),
    ),
    "requests that leave the weights cache's sidecar no room": (
        {"weightsCache": True, "gpuEphemeralStorageLimit": "48Gi"},
        "gpuEphemeralStorageLimit",
        (
            '"48Gi"',
            "44.0Gi that a node of pool v6e-1 (ct6e-standard-1t) offers to pods beside the sidecar container of weightsCache",
            "request at most 44Gi",
        ),
    ),
    "zone outside the region": (
        {"zone": "us-central1-a"},
        "zone",
        ('"us-central1-a"', "is not a zone of region asia-northeast1", "use one such as asia-northeast1-b"),
    ),
    "pool's zone outside the region": (
        {"acceleratorPools": _pools({"zones": ["asia-northeast1-b", "us-central1-a"]})},
        "acceleratorPools[0].zones",
        ('"us-central1-a"', "is not a zone of region asia-northeast1", "use one such as asia-northeast1-b"),
    ),
    "zones that are no list": (
        {"acceleratorPools": _pools({"zones": "asia-northeast1-b"})},
        "acceleratorPools[0].zones",
        ('"asia-northeast1-b"', "is not a list of zones", "give a list such as [asia-northeast1-b]"),
    ),
    "minimum above maximum": (
        {"acceleratorPools": _pools({"minNodeCount": 3, "initialNodeCount": 3})},
        "acceleratorPools[0].minNodeCount",
        (" 3 ", "is above maxNodeCount 2", "raise maxNodeCount"),
    ),
    "initial above maximum": (
        {"acceleratorPools": _pools({"initialNodeCount": 3})},
        "acceleratorPools[0].initialNodeCount",
        (" 3 ", "is outside minNodeCount 1 to maxNodeCount 2", "give a number from 1 to 2"),
    ),
    "initial below minimum": (
        {"acceleratorPools": _pools({"initialNodeCount": 0})},
        "acceleratorPools[0].initialNodeCount",
        (" 0 ", "is outside minNodeCount 1 to maxNodeCount 2", "give a number from 1 to 2"),
    ),
    "negative minimum": (
        {"acceleratorPools": _pools({"minNodeCount": -1, "initialNodeCount": None})},
        "acceleratorPools[0].minNodeCount",
        (" -1 ", "is not a number of nodes", "give a whole number from 0 to 1000"),
    ),
    "count that is text": (
        {"acceleratorPools": _pools({"maxNodeCount": "2"})},
        "acceleratorPools[0].maxNodeCount",
        ('"2"', "is not a number of nodes", "give a whole number"),
    ),
    "count that is a truth value": (
        {"acceleratorPools": _pools({"maxNodeCount": True})},
        "acceleratorPools[0].maxNodeCount",
        ("true", "is not a number of nodes", "give a whole number"),
    ),
    "missing maximum": (
        {"acceleratorPools": _pools({"maxNodeCount": None})},
        "acceleratorPools[0].maxNodeCount",
        ("", "is missing", "give a whole number from 0 to 1000"),
    ),
    "maximum of no nodes": (
        {"acceleratorPools": _pools({"maxNodeCount": 0, "minNodeCount": 0, "initialNodeCount": 0})},
        "acceleratorPools[0].maxNodeCount",
        (" 0 ", "leaves the pool without room", "remove the pool"),
    ),
    "disk that is too small": (
        {"acceleratorPools": _pools({"diskSizeGb": 5})},
        "acceleratorPools[0].diskSizeGb",
        (" 5 ", "is not a size of a boot disk", "give whole GB from 10 to 65536"),
    ),
    "duplicate name": (
        {"acceleratorPools": _pools(None, {"name": "v6e-1"})},
        "acceleratorPools[1].name",
        ('"v6e-1"', "is the name of an earlier pool", "give each pool its own"),
    ),
    "badly formed name": (
        {"acceleratorPools": _pools({"name": "6e_1"})},
        "acceleratorPools[0].name",
        ('"6e_1"', "is not a name of a node pool", "a letter first"),
    ),
    "missing name": (
        {"acceleratorPools": _pools({"name": None})},
        "acceleratorPools[0].name",
        ("", "is missing", "use lower-case letters"),
    ),
    "long name": (
        {"acceleratorPools": _pools({"name": "a" * 41})},
        "acceleratorPools[0].name",
        ('"' + "a" * 41 + '"', "has 41 characters, and GKE allows 40", "shorten it"),
    ),
    "name of the system pool": (
        {"acceleratorPools": _pools({"name": "system"})},
        "acceleratorPools[0].name",
        ('"system"', "is the name of the cluster's own node pool", "choose another name"),
    ),
    "unknown key of a pool": (
        {"acceleratorPools": _pools({"machinetype": "x"})},
        "acceleratorPools[0].machinetype",
        ('"x"', "is not a setting of a pool", "did you mean machineType?"),
    ),
    "unknown key without value": (
        {"acceleratorPools": [{**pool, "topology": None} for pool in _pools()[:1]]},
        "acceleratorPools[0].topology",
        ("", "is not a setting of a pool", "did you mean tpuTopology?"),
    ),
    "pool that is no object": (
        {"acceleratorPools": [*_pools(), "l4"]},
        "acceleratorPools[3]",
        ('"l4"', "is not a pool", "give an object with name, machineType and maxNodeCount"),
    ),
    "empty ladder": (
        {"acceleratorPools": []},
        "acceleratorPools",
        ("[]", "has no pool, so nothing could serve", "give at least one pool"),
    ),
    "ladder that is no list": (
        {"acceleratorPools": {"name": "l4"}},
        "acceleratorPools",
        ('{"name": "l4"}', "is not a list", "the best first"),
    ),
    "ladder that is no JSON": (
        {"acceleratorPools": "v6e-1, l4"},
        "acceleratorPools",
        ('"v6e-1, l4"', "is not a list", "give a YAML list"),
    ),
    "eleven pools": (
        {"acceleratorPools": [{**_pools()[1], "name": f"l4-{index}"} for index in range(11)]},
        "acceleratorPools",
        ("has 11 pools", "more than 10", "remove the ones of least priority"),
    ),
    "TPUs of different topologies": (
        {"acceleratorPools": [*_pools(), {"name": "v6e-4", "machineType": "ct6e-standard-4t", "maxNodeCount": 2}]},
        "acceleratorPools",
        (
            '"ct6e-standard-4t"',
            "of pool v6e-4 differs in TPU generation and topology",
            "use machine types with the same",
        ),
    ),
    "GPUs of different number": (
        {"acceleratorPools": [*_pools(), {"name": "l4x2", "machineType": "g2-standard-24", "maxNodeCount": 2}]},
        "acceleratorPools",
        (
            '"g2-standard-24"',
            "of pool l4x2 differs in number of GPUs",
            "use machine types with the same number of GPUs",
        ),
    ),
    "pool that no image serves": (
        {"tpuBaseImage": ""},
        "tpuBaseImage",
        (
            '""',
            "no other image serves pool v6e-1 (ct6e-standard-1t)",
            "give the base of the TPU image, or remove the pool",
        ),
    ),
    "malformed image": (
        {"gpuBaseImage": "vllm openai:v1"},
        "gpuBaseImage",
        ('"vllm openai:v1"', "is not an image reference with a registry", "give REGISTRY/REPOSITORY:TAG"),
    ),
    "image without tag": (
        {"gpuBaseImage": "docker.io/vllm/vllm-openai"},
        "gpuBaseImage",
        ('"docker.io/vllm/vllm-openai"', "does not say which version", "add a tag other than latest"),
    ),
    "latest image": (
        {"gpuBaseImage": "docker.io/vllm/vllm-openai:latest"},
        "gpuBaseImage",
        ('"docker.io/vllm/vllm-openai:latest"', "does not say which version", "add a tag other than latest"),
    ),
    "image of an unknown accelerator": (
        {"images": {"gpuu": f"docker.io/a/b@{DIGEST}"}},
        "images.gpuu",
        (f'"docker.io/a/b@{DIGEST}"', "is of no accelerator: gpuu is unknown", "did you mean gpu?"),
    ),
    "prebuilt image by tag": (
        {"images": {"gpu": "docker.io/a/b:1"}},
        "images.gpu",
        ('"docker.io/a/b:1"', "is not an image reference by digest", "give REGISTRY/REPOSITORY@sha256:DIGEST"),
    ),
    "prebuilt image that is no text": (
        {"images": {"tpu": 7}},
        "images.tpu",
        (" 7 ", "is not an image reference by digest", "give REGISTRY/REPOSITORY@sha256:DIGEST"),
    ),
    "prebuilt images that are a list": (
        {"images": ["docker.io/a/b"]},
        "images",
        ('["docker.io/a/b"]', "is not a mapping", "give accelerator: REGISTRY/REPOSITORY@sha256:DIGEST"),
    ),
    "prebuilt images that are no JSON": (
        {"images": "gpu=docker.io/a/b"},
        "images",
        ('"gpu=docker.io/a/b"', "is not a mapping", "give a YAML mapping in the stack's file, or JSON"),
    ),
    "stack without its organisation": (
        {"imagesFrom": "tpu-gpu-fungibility/prod"},
        "imagesFrom",
        ('"tpu-gpu-fungibility/prod"', "is not a full name of a stack", "give ORGANISATION/PROJECT/STACK"),
    ),
    "missing project": (
        {"gcp:project": None},
        "gcp:project",
        ("", "is missing", "pulumi config set gcp:project YOUR_PROJECT_ID"),
    ),
    "project by number": (
        {"gcp:project": "123456789012"},
        "gcp:project",
        ("123456789012", "is not a project ID", "not the name or the number"),
    ),
    "malformed region": (
        {"region": "Tokyo", "zone": "Tokyo-b"},
        "region",
        ('"Tokyo"', "is not a region of Google Cloud", "give one such as asia-northeast1"),
    ),
    "malformed cluster name": (
        {"clusterName": "Inference"},
        "clusterName",
        ('"Inference"', "is not a name that GKE allows", "use lower-case letters"),
    ),
    "long cluster name": (
        {"clusterName": "c" * 41},
        "clusterName",
        ('"' + "c" * 41 + '"', "has 41 characters, and GKE allows 40", "shorten it"),
    ),
    "class of GKE's own": (
        {"computeClassName": "gke-fallback"},
        "computeClassName",
        ('"gke-fallback"', "begins with gke, which GKE refuses", "choose another name"),
    ),
    "class of Autopilot's own": (
        {"computeClassName": "autopilot-fallback"},
        "computeClassName",
        ('"autopilot-fallback"', "begins with autopilot, which GKE refuses", "choose another name"),
    ),
    "malformed class name": (
        {"computeClassName": "vllm_fallback"},
        "computeClassName",
        ('"vllm_fallback"', "is not a name of a ComputeClass", "use up to 63 lower-case letters"),
    ),
    "malformed model": (
        {"model": "Qwen2-1.5B"},
        "model",
        ('"Qwen2-1.5B"', "is not a Hugging Face model", "give ORGANISATION/NAME"),
    ),
    "malformed range": (
        {"loadBalancerSourceRanges": ["203.0.113.0/24", "203.0.113.1/24"]},
        "loadBalancerSourceRanges",
        ('"203.0.113.1/24"', "is not an IPv4 range", "give CIDR notation such as 203.0.113.0/24"),
    ),
    "ranges that are no list": (
        {"loadBalancerSourceRanges": [1]},
        "loadBalancerSourceRanges",
        ("[1]", "is not a list of texts", "give a list"),
    ),
    "port out of range": (
        {"servicePort": 65536},
        "servicePort",
        ('"65536"', "is not a whole number from 1 to 65535", "give one from 1 to 65535"),
    ),
    "count of replicas that is no number": (
        {"replicas": "two"},
        "replicas",
        ('"two"', "is not a whole number from 1 to 10000", "give one from 1 to 10000"),
    ),
    "no replica": (
        {"replicas": 0},
        "replicas",
        ('"0"', "is not a whole number from 1 to 10000", "give one from 1 to 10000"),
    ),
    "replicas that fill every node": (
        {"replicas": 6},
        "replicas",
        (
            "6",
            "a rolling update brings one more, and all enabled accelerator pools together may have 6 nodes",
            "give at most 5",
        ),
    ),
    "a single node": (
        {"acceleratorPools": [{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 1}]},
        "replicas",
        ("1", "may have 1 nodes", "raise a pool's maxNodeCount"),
    ),
    "replicas that fill what is enabled": (
        {"replicas": 2, "acceleratorPools": [_pools()[0], *({**pool, "enabled": False} for pool in _pools()[1:])]},
        "replicas",
        ("2", "all enabled accelerator pools together may have 2 nodes", "give at most 1"),
    ),
    "an autoscaler that fills every node": (
        {"maxReplicas": 6},
        "maxReplicas",
        ("6", "together may have 6 nodes", "give at most 5"),
    ),
    "an autoscaler with nothing to scale": (
        {"replicas": 3, "maxReplicas": 3},
        "maxReplicas",
        ("3", "is not above the 3 of replicas", "give 0 for a fixed number"),
    ),
    "a server too old to drain itself": (
        {"gpuBaseImage": "docker.io/vllm/vllm-openai:v0.17.1"},
        "gpuServerDrains",
        ("true", "would refuse --shutdown-timeout", "give false"),
    ),
    "a grace period that GKE would cut": (
        {"terminationGracePeriodSeconds": 3600},
        "terminationGracePeriodSeconds",
        ("3600", "is not a whole number from 15 to 600", "give one from 15 to 600"),
    ),
    "a grace period that a network policy takes whole": (
        {"terminationGracePeriodSeconds": 20, "networkPolicy": True},
        "terminationGracePeriodSeconds",
        ("20", "requests come in for 30 s after a pod's end has begun", "give at least 40"),
    ),
    "a pool that is neither on nor off": (
        {"acceleratorPools": [{**_pools()[0], "enabled": "no"}]},
        "acceleratorPools[0].enabled",
        ("no", "is neither true nor false", "give true or false"),
    ),
    "every pool disabled": (
        {"acceleratorPools": [{**pool, "enabled": False} for pool in _pools()]},
        "acceleratorPools[].enabled",
        ("false", "so nothing could serve", "leave one pool enabled"),
    ),
    "truth value that is none": (
        {"activeMigration": "yes"},
        "activeMigration",
        ('"yes"', "is neither true nor false", "give true or false"),
    ),
    "unknown release channel": (
        {"releaseChannel": "REGULR"},
        "releaseChannel",
        ('"REGULR"', "is not one of RAPID, REGULAR, STABLE, EXTENDED", "did you mean REGULAR?"),
    ),
    "malformed quantity": (
        {"memoryRequest": "5 GB"},
        "memoryRequest",
        ('"5 GB"', "is not a Kubernetes quantity above zero", "give one such as 1500m, 5Gi or 43Gi"),
    ),
    "cpu that no small node has": (
        {"cpuRequest": "1970m"},
        "cpuRequest",
        (
            '"1970m"',
            "for each of 2 containers is more than the 3.92 that a node of pool l4-spot",
            "request at most 1960m",
        ),
    ),
    "memory that no small node has": (
        {"memoryRequest": "7Gi"},
        "memoryRequest",
        (
            '"7Gi"',
            "for each of 2 containers is more than the 13.3Gi that a node of pool l4-spot",
            "request at most 6Gi",
        ),
    ),
    "storage that no boot disk has": (
        {"gpuEphemeralStorageLimit": "60Gi"},
        "gpuEphemeralStorageLimit",
        ('"60Gi"', "is more than the 49.0Gi that a node of pool v6e-1", "request at most 49Gi"),
    ),
    "argument of the program's own": (
        {"gpuServerArguments": ["--port=9000"]},
        "gpuServerArguments",
        ('"--port"', "is set by the program itself", "remove it"),
    ),
    "machine type that is no text": (
        {"acceleratorPools": _pools({"machineType": ["ct6e-standard-1t"]})},
        "acceleratorPools[0].machineType",
        ('["ct6e-standard-1t"]', "is not a machine type", "did you mean ct6e-standard-1t?"),
    ),
    "a zone twice": (
        {"acceleratorPools": _pools({"zones": ["asia-northeast1-b", "asia-northeast1-b"]})},
        "acceleratorPools[0].zones",
        ('"asia-northeast1-b"', "is there twice", "remove one"),
    ),
    "empty zone": (
        {
            "zone": "",
            "acceleratorPools": _pools({"zones": ["asia-northeast1-b"]}, {"zones": ["asia-northeast1-b"]})[:2],
        },
        "zone",
        ('""', "is not a zone of region asia-northeast1", "use one such as asia-northeast1-b"),
    ),
    "nothing where pools should be": (
        {"acceleratorPools": "null"},
        "acceleratorPools",
        ('"null"', "is not a list", "give a YAML list"),
    ),
    "more digits than a number has": (
        {"replicas": "1" * 5000},
        "replicas",
        ("1" * 5000, "is not a whole number", "give one from 1 to 10000"),
    ),
    "digits that only Python reads": (
        {"servicePort": "\uff18\uff10\uff18\uff10"},
        "servicePort",
        ("\\uff18", "is not a whole number", "give one from 1 to 65535"),
    ),
    "system machine that nobody knows": (
        {"systemMachineType": "e2-standard-3"},
        "systemMachineType",
        ('"e2-standard-3"', "is not a machine type without accelerator", "did you mean e2-standard-32?"),
    ),
    "memory in thousandths of a byte": (
        {"memoryRequest": "512m"},
        "memoryRequest",
        ('"512m"', "is 0.512 bytes", "give one such as 5Gi or 512Mi"),
    ),
    "memory without a unit": (
        {"memoryRequest": "5"},
        "memoryRequest",
        ('"5"', "is 5 bytes", "give one such as 5Gi or 512Mi"),
    ),
    "storage that a disk without room has not": (
        {"gpuEphemeralStorageLimit": "5Gi", "weightsCache": True, "acceleratorPools": _pools(None, {"diskSizeGb": 10})},
        "gpuEphemeralStorageLimit",
        ('"5Gi"', "is more than the 0.0Gi", "give the pool a larger machine or disk"),
    ),
    "range without its length": (
        {"loadBalancerSourceRanges": ["203.0.113.7"]},
        "loadBalancerSourceRanges",
        ('"203.0.113.7"', "is not an IPv4 range (written 203.0.113.7/32 in CIDR notation)", "give CIDR notation"),
    ),
    "range with a mask": (
        {"loadBalancerSourceRanges": ["203.0.113.0/255.255.255.0"]},
        "loadBalancerSourceRanges",
        ("255.255.255.0", "written 203.0.113.0/24 in CIDR notation", "give CIDR notation"),
    ),
    "a range twice": (
        {"loadBalancerSourceRanges": ["203.0.113.0/24", "203.0.113.0/24"]},
        "loadBalancerSourceRanges",
        ('"203.0.113.0/24"', "is there twice", "remove one"),
    ),
    "argument of the program's own with underscores": (
        {"gpuServerArguments": ["--tensor_parallel_size=2"]},
        "gpuServerArguments",
        ('"--tensor_parallel_size"', "is set by the program itself", "`acceleratorPools` decide it"),
    ),
    "argument of the program's own by its beginning": (
        {"tpuServerArguments": ["--max-model=1"]},
        "tpuServerArguments",
        ('"--max-model"', "is set by the program itself", "`maxModelLen` decides it"),
    ),
    "another name of the model": (
        {"gpuServerArguments": ["--served-model-name", "m"]},
        "gpuServerArguments",
        ('"--served-model-name"', "is set by the program itself", "clients ask for the output `model`"),
    ),
    "empty argument": (
        {"gpuServerArguments": [""]},
        "gpuServerArguments",
        ('""', "is no argument of a command line", "remove it"),
    ),
    "argument that no protocol carries": (
        {"gpuServerArguments": ["--seed=\ud800"]},
        "gpuServerArguments",
        ("\\ud800", "is no argument of a command line", "what cannot be printed"),
    ),
    "value without its option": (
        {"gpuServerArguments": ["--seed=0", "8"]},
        "gpuServerArguments",
        ('"8"', "is a value without an option before it", "write --OPTION=VALUE"),
    ),
    "model that Hugging Face cannot have": (
        {"model": "Qwen/Qwen2--1.5B"},
        "model",
        ('"Qwen/Qwen2--1.5B"', "is not a Hugging Face model", "give ORGANISATION/NAME"),
    ),
    "images from the stack itself": (
        {"imagesFrom": "organization/tpu-gpu-fungibility/dev"},
        "imagesFrom",
        ("/dev", "is this very stack", "name the stack that builds them"),
    ),
    "more channels than a policy has": (
        {"notificationChannels": [f"projects/p/notificationChannels/{number}" for number in range(17)]},
        "notificationChannels",
        ("17", "is more channels than the 16", "remove some"),
    ),
    "unknown setting": (
        {"modle": "Qwen/Qwen2-1.5B"},
        "modle",
        ("", "is not a setting of this program", "did you mean model?"),
    ),
    "missing ladder": (
        {"acceleratorPools": None},
        "acceleratorPools",
        ("", "is missing", "pulumi config set acceleratorPools VALUE"),
    ),
    "missing setting": (
        {"model": None},
        "model",
        ("", "is missing", "pulumi config set model VALUE"),
    ),
    "monitoring that is no boolean": (
        {"monitoring": "on"},
        "monitoring",
        ('"on"', "is neither true nor false", "give true or false"),
    ),
    "notification channel by its display name": (
        {"notificationChannels": ["on-call"]},
        "notificationChannels",
        ('"on-call"', "is not the name of a notification channel", "give projects/PROJECT/notificationChannels/NUMBER"),
    ),
    "notification channels that are no list": (
        {"notificationChannels": "projects/p/notificationChannels/1"},
        "notificationChannels",
        ('"projects/p/notificationChannels/1"', "is not a list", "give a YAML list"),
    ),
    "no patience with pending replicas": (
        {"pendingAlertMinutes": 0},
        "pendingAlertMinutes",
        ('"0"', "is not a whole number from 1 to 1440", "give one from 1 to 1440"),
    ),
    "a part of a request": (
        {"waitingAlertRequests": 0.5},
        "waitingAlertRequests",
        ('"0.5"', "is not a whole number from 1 to 1000000", "give one from 1"),
    ),
    "first token after more than an hour": (
        {"firstTokenAlertSeconds": 3601},
        "firstTokenAlertSeconds",
        ('"3601"', "is not a whole number from 1 to 3600", "give one from 1 to 3600"),
    ),
    "an alert at no preemption": (
        {"preemptionAlertCount": 0},
        "preemptionAlertCount",
        ('"0"', "is not a whole number from 1 to 1000", "give one from 1 to 1000"),
    ),
}


@pytest.mark.parametrize(("overrides", "field", "parts"), BAD.values(), ids=BAD)
def test_bad_setting_is_refused_with_field_value_reason_and_fix(overrides: dict[str, Any], field: str, parts: tuple[str, str, str]) -> None:
    value, reason, fix = parts
    message = _refusal(**overrides)
    line = _line(message, field)
    told, separator, advice = line.partition(". Fix: ")
    assert separator, line
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
        "gcp:project", "zone", "clusterName", "model", "servicePort", "modle",
        "acceleratorPools[0].name", "acceleratorPools[0].initialNodeCount", "acceleratorPools[1].accelerator",
    ):  # fmt: skip
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
    assert _parse(gpuServerArguments=arguments).server_arguments["gpu"] == tuple(arguments)


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
        run_program({"model": "Qwen2-1.5B"})
    assert [each for each in registered if each != "pulumi:pulumi:Stack"] == []
    run_program()
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
        for pool in settings.accelerator_pools
    ] == [
        ("v6e-1", "ct6e-standard-1t", "on-demand", 1, 1, 2),
        ("l4-spot", "g2-standard-4", "preemptible", 1, 0, 2),
        ("l4", "g2-standard-4", "on-demand", 1, 1, 2),
    ]
    assert {pool.zones for pool in settings.accelerator_pools} == {("asia-northeast1-b",)}
    assert {pool.gpu_driver_version for pool in settings.accelerator_pools[1:]} == {"LATEST"}
    assert settings.region == "asia-northeast1"
    assert settings.cluster_name == "tpu-gpu-fungibility"
    assert settings.compute_class_name == "vllm-fallback"
    assert settings.model == "Qwen/Qwen2-1.5B"


def test_a_pool_needs_only_a_name_a_machine_type_and_a_maximum() -> None:
    (pool,) = _parse(acceleratorPools=[{"name": "l4", "machineType": "g2-standard-4", "maxNodeCount": 3}]).accelerator_pools
    assert (pool.provisioning, pool.gpu_driver_version) == ("on-demand", "LATEST")
    assert (pool.initial_node_count, pool.min_node_count, pool.max_node_count) == (0, 0, 3)
    assert pool.zones == ("asia-northeast1-b",)


def test_zero_nodes_are_a_number_and_not_a_missing_value() -> None:
    pool = _parse(acceleratorPools=_pools({"minNodeCount": 0, "initialNodeCount": 0})).accelerator_pools[0]
    assert (pool.min_node_count, pool.initial_node_count) == (0, 0)


def test_initial_count_is_the_minimum_unless_given() -> None:
    pool = _parse(acceleratorPools=_pools({"minNodeCount": 2, "initialNodeCount": None})).accelerator_pools[0]
    assert pool.initial_node_count == 2


def test_ten_pools_and_names_of_forty_characters_are_allowed() -> None:
    pools = [{**_pools()[1], "name": f"l{index}".ljust(40, "x")} for index in range(10)]
    assert len(_parse(acceleratorPools=pools, clusterName="c" * 40).accelerator_pools) == 10


@pytest.mark.parametrize("lifted", ["", "10"])
def test_limit_on_pools_holds_unless_the_bench_lifts_it_far_enough(monkeypatch: pytest.MonkeyPatch, lifted: str) -> None:
    monkeypatch.setenv(MAX_POOLS_VARIABLE, lifted)
    with pytest.raises(SettingsError, match="has 11 pools, more than 10"):
        run_program({"acceleratorPools": _numbered_pools(11)})


def test_bench_lifts_the_limit_on_pools_and_every_preview_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    monkeypatch.setenv(MAX_POOLS_VARIABLE, "11")
    run = run_program({"acceleratorPools": _numbered_pools(11)})
    # The system's own pool is one more.
    assert len(run.of_type("gcp:container/nodePool:NodePool")) == 12
    assert any(MAX_POOLS_VARIABLE in each and "unset it" in each for each in said)


@pytest.mark.parametrize("lifted", ["many", "0", "-1", "1.5", "10000"])
def test_limit_that_is_lifted_to_no_number_is_refused_with_cause_and_cure(monkeypatch: pytest.MonkeyPatch, lifted: str) -> None:
    monkeypatch.setenv(MAX_POOLS_VARIABLE, lifted)
    with pytest.raises(SettingsError) as refused:
        run_program()
    line = _line(str(refused.value), MAX_POOLS_VARIABLE)
    assert f'"{lifted}"' in line
    assert "is not a number of pools" in line
    assert "unset it (the limit is 10 then)" in line


@pytest.mark.parametrize("prebuilt", [{"images": {"tpu": f"docker.io/a/b:TPU@{DIGEST}"}}, {"imagesFrom": "o/p/dev"}])
def test_base_of_an_image_that_is_not_built_may_be_empty(prebuilt: dict[str, Any]) -> None:
    settings = _parse(tpuBaseImage="", **prebuilt)
    assert settings.images == prebuilt.get("images", {})
    assert settings.images_from == prebuilt.get("imagesFrom", "")


def test_image_of_an_accelerator_that_no_pool_has_may_be_empty() -> None:
    settings = _parse(acceleratorPools=_pools()[1:], tpuBaseImage="")
    assert settings.base_images["tpu"] == ""


@pytest.mark.parametrize(
    "image",
    [
        "docker.io/vllm/vllm-tpu@sha256:" + "0" * 64,
        "localhost:5000/vllm:v1@sha256:" + "0" * 64,
        "asia-northeast1-docker.pkg.dev/project/repository/vllm__tpu:1.0",
    ],
)
def test_images_by_tag_or_digest_of_any_registry_are_allowed(image: str) -> None:
    assert _parse(tpuBaseImage=image).base_images["tpu"] == image


@pytest.mark.parametrize("image", ["global/images/vllm-2026-11", "projects/images-project/global/images/vllm"])
def test_disk_images_of_the_own_and_of_another_project_are_allowed(image: str) -> None:
    pools = _parse(acceleratorPools=_with_disk_image(image)).accelerator_pools
    assert [pool.secondary_boot_disk_image for pool in pools] == [image, None, None]


def test_storage_that_fits_without_a_sidecar_is_allowed_without_one() -> None:
    assert _parse(gpuEphemeralStorageLimit="48Gi").gpu_ephemeral_storage_limit == "48Gi"


def test_a_larger_boot_disk_makes_room_for_more_storage() -> None:
    pools = [{**pool, "diskSizeGb": 200} for pool in _pools()]
    assert _parse(acceleratorPools=pools, gpuEphemeralStorageLimit="60Gi").gpu_ephemeral_storage_limit == "60Gi"


def test_larger_machines_make_room_for_larger_requests() -> None:
    pools = _pools()
    pools = [pools[0], *({**pool, "machineType": "g2-standard-8"} for pool in pools[1:])]
    settings = _parse(acceleratorPools=pools, cpuRequest="3", memoryRequest="12Gi")
    assert (settings.cpu_request, settings.memory_request) == ("3", "12Gi")


@pytest.mark.parametrize(
    ("text", "number"),
    [("1500m", 1.5), ("2", 2.0), ("5Gi", 5 * 2.0**30), ("1.5Gi", 1.5 * 2**30), ("43G", 43e9), ("512Mi", 2.0**29)],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


def test_text_that_is_no_quantity_has_no_number() -> None:
    with pytest.raises(ValueError, match="5 GB"):
        parse_quantity("5 GB")
