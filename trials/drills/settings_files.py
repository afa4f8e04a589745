"""Random settings files: values that are right, just right, and wrong, of every setting and of every key of an accelerator pool.

A file is what a person may write into `Pulumi.STACK.yaml`. Of a wrong value is known at which field it has to be refused; a file
without one is either refused, since its values do not go together, or has to work. Left out: what only a live project can say
(quota, namespaces that are missing), and encrypted values, which the engine turns into plain ones.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from components.catalog.machines import MACHINE_TYPES
from components.settings.accelerator_pool import AcceleratorPool
from components.settings.formats import OWN_ARGUMENTS, Range, SecretName
from components.settings.reader import Notes, Setting, ValueType, declared
from components.settings.schema import defaults, schema_settings
from components.settings.value_types import Boolean, Choice, Quantity, Structure, Text, Texts, Whole

Any_ = SearchStrategy[Any]

#: Characters that are letters or digits to Python and to nobody else, what no terminal shows, and what UTF-8 cannot say.
_ODD_TEXTS = ("\uff11\uff12", "é", "a b", "a\nb", "\x00", "\ud800", ".", "/", "[", "{}", "A" * 300)
_WRONG_TYPES: tuple[Any, ...] = ([], {}, [[1]], {"a": 1})

_DIGEST = "sha256:" + "0123456789abcdef" * 4
_REGIONS = ("asia-northeast1", "us-central1", "europe-west4", "us-east5")


@dataclass(frozen=True)
class SettingsFile:
    """`values`: setting -> value, None for one that is taken away; all else is the dev stack's."""

    values: Mapping[str, Any]
    #: Beginnings of the fields that a refusal has to name; none for a file that is good in its parts.
    wrong: tuple[str, ...]


def _of(*values: Any) -> Any_:
    return st.sampled_from(values)


_NAME = st.from_regex(r"\A[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,8}){0,2}\Z")
_LABEL_NAME = _NAME.filter(lambda name: not name.startswith("goog"))
_IMAGE = st.builds(
    lambda path, end: f"docker.io/{path}{end}", _NAME, _of(":v1", f"@{_DIGEST}", f":v1@{_DIGEST}", ":v0.31.0", ":" + "t1" * 64)
)
_SECRET = _of("", "a", "s" * 255, "projects/my-project/secrets/key", "key/versions/latest", "projects/p-1/secrets/k/versions/7")
_ARGUMENT = _of("--enforce-eager", "--max-num-seqs=8", "--seed=0", "--gpu-memory-utilization=0.8", "--no-enable-prefix-caching")
_RANGE = st.builds(lambda a, b, length: f"{a}.{b}.0.0/{length}", st.integers(1, 223), st.integers(0, 255), st.integers(16, 32))
_CHANNEL = st.builds(lambda number: f"projects/my-project/notificationChannels/{number}", st.integers(1, 10**18))
_NETWORK = st.builds(
    lambda nodes, pods, services: {
        "nodeRange": f"10.64.0.0/{nodes}",
        "podRange": f"10.128.0.0/{pods}",
        "serviceRange": f"172.16.0.0/{services}",
    },
    st.integers(16, 29),
    st.integers(9, 24),
    st.integers(16, 27),
)
_WINDOW = st.builds(
    lambda start, hours, repeated: {
        "startTime": f"2026-01-03T{start:02d}:00:00Z",
        "endTime": f"2026-01-03T{start + hours:02d}:00:00Z",
        "recurrence": repeated,
    },
    st.integers(0, 11),
    st.integers(4, 12),
    _of("FREQ=DAILY", "FREQ=WEEKLY;BYDAY=SA,SU,MO", "FREQ=WEEKLY;BYDAY=FR,SA,SU,MO,TU"),
)


def _some(element: Any_) -> Any_:
    return st.lists(element, max_size=3, unique=True)


#: Setting -> right values, the limits among them, where its declaration does not give them, or not what goes with the others. `region`
#: and `zone` are drawn together, `acceleratorPools` below.
_RIGHT: dict[str, Any_] = {
    "region": _of(*_REGIONS),
    "zone": _of(*(f"{region}-b" for region in _REGIONS)),
    "clusterName": st.one_of(_NAME, _of("c", "c" * 40)),
    "gpuBaseImage": _IMAGE,
    "tpuBaseImage": _IMAGE,
    "images": st.dictionaries(_of("gpu", "tpu"), st.just(f"docker.io/a/b@{_DIGEST}")),
    "imagesFrom": _of("", "organization/tpu-gpu-fungibility/other", "o/p/s"),
    "model": st.one_of(st.builds(lambda owner, name: f"{owner}/{name}", _NAME, _NAME), _of("a/b", "Qwen/Qwen2-1.5B", "a/" + "b" * 94)),
    "huggingFaceToken": _of("", "hf_token"),
    "huggingFaceTokenSecret": _SECRET,
    "gpuServerArguments": _some(_ARGUMENT),
    "tpuServerArguments": _some(_ARGUMENT),
    # It has to exist.
    "namespace": _of("default", "kube-public"),
    "cpuRequest": _of("1", "1500m", "1m", "0.5", "1.25", "0.0005", "500m"),
    "memoryRequest": _of("5Gi", "1Mi", "1048576", "1.5Gi", "5G", "0.001Gi"),
    "gpuEphemeralStorageLimit": _of("43Gi", "1Gi", "1Mi", "10G", "0.5Gi"),
    "loadBalancerSourceRanges": _some(_RANGE),
    "gateway": _of(
        {},
        {"class": "gke-l7-rilb"},
        {"class": "gke-l7-regional-external-managed", "hostName": "a.example.com", "certificate": {"dnsAuthorization": True}},
        {"class": "gke-l7-global-external-managed", "hostName": "a.example.com", "certificate": {"dnsAuthorization": True}},
    ),
    "notificationChannels": st.lists(_CHANNEL, max_size=16, unique=True),
    "apiKey": _of("", "k" * 16, "a-key-of-some-length"),
    "apiKeySecret": _SECRET,
    "network": st.one_of(st.just({}), _NETWORK),
    "controlPlaneSourceRanges": _some(_RANGE),
    "clientNamespaces": _some(_NAME),
    "maintenanceWindow": st.one_of(st.just({}), _WINDOW),
    "secretsEncryptionKey": _of(""),
    "labels": st.one_of(
        st.dictionaries(_LABEL_NAME, st.one_of(_NAME, _of("", "v" * 63, "1_a")), max_size=3),
        st.just({f"l{index}": "v" for index in range(64)}),
    ),
}

_GOOD_WINDOW = {"startTime": "2026-01-03T15:00:00Z", "endTime": "2026-01-03T23:00:00Z", "recurrence": "FREQ=DAILY"}
_GOOD_NETWORK = {"nodeRange": "10.64.0.0/20", "podRange": "10.128.0.0/14", "serviceRange": "172.16.0.0/20"}


def _changed(good: dict[str, Any], *changes: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return ({**good, **change} for change in changes)


#: Setting -> mappings in which something is wrong, which no declaration tells.
_WRONG_MAPPINGS: dict[str, tuple[Any, ...]] = {
    "images": ({"gpu": "docker.io/a/b:v1"}, {"cpu": f"docker.io/a/b@{_DIGEST}"}, {"gpu": None}, {"tpu": []}, {"": ""}),
    "network": (
        {"nodeRange": "10.64.0.0/20"},
        *_changed(_GOOD_NETWORK,
            {"podRange": "10.64.0.0/14"}, {"nodeRange": 5}, {"nodeRange": "8.8.0.0/20"}, {"nodeRange": "127.0.0.0/20"}, {"nods": "x"},
            {"serviceRange": "172.16.0.0/28"}, {"serviceRange": "172.16.0.0/15"}, {"serviceRange": ["172.16.0.0", 20]},
            {"podRange": True}, {"podRange": "10.64.0.0"}, {"nodeRange": "10.64.0.0/29", "podRange": "10.64.0.0/29"},
        ),
    ),
    "maintenanceWindow": (
        {"startTime": "2026-01-03T15:00:00Z"},
        *_changed(_GOOD_WINDOW,
            {"startTime": "2026-1-3T5:0:0Z"}, {"startTime": 1}, {"endTime": "2026-01-03T16:00:00Z"}, {"endTime": "2026-01-03T14:00:00Z"},
            {"recurrence": "FREQ=MONTHLY"}, {"recurrence": []}, {"end": "x"},
            {"endTime": "2026-01-03T19:00:00Z", "recurrence": "FREQ=WEEKLY;BYDAY=SA"},
        ),
    ),
    "gateway": (
        {"hostName": "a.b"}, {"class": "gke-l7-rlib"}, {"class": "gke-l7-rilb", "name": "x"}, {"class": "gke-l7-rilb", "hostName": "a b.c"},
        {"class": "gke-l7-rilb", "hostName": "a.b"}, {"class": "gke-l7-rilb", "certificate": {"secret": "s"}},
        {"class": "gke-l7-rilb", "hostName": "a.b", "certificate": {"map": "m"}}, {"class": "gke-l7-rilb", "sourceRanges": ["1.0.0.0/8"]},
        {"class": "gke-l7-rilb", "proxyRange": "10.0.0.0/27"}, {"class": "gke-l7-global-external-managed"},
    ),
    "labels": (
        {"A": "v"}, {"l": "V"}, {"l": 1}, {"l": None}, {"l": "v" * 64}, {"l" * 64: "v"}, {"1": "v"}, {"": "v"}, {"google": "v"},
        {f"l{index}": "v" for index in range(65)},
    ),
}  # fmt: skip

#: What is refused by the types that take it for what it looks like.
_NO_QUANTITIES = ("0", "0m", "-1", "1 CPU", "1e3", "\uff11", "1.", ".5", "1K", "5GB", "5gi", "Gi")
_NO_BYTES = ("5", "512m", "1023Ki")
_NO_RANGES = ("203.0.113.1/24", "203.0.113.0", "203.0.113.0/33", "203.0.113.0/255.0.0.0", "203.0.113.0/08", "::/0", "010.0.0.0/8", "1/8")
_NO_SECRETS = ("s" * 256, "projects/p/keys/k", "key/versions/0", "key/versions/", "projects//secrets/k", "key/versions/\uff11")


def _right(setting: Setting) -> Any_:
    if setting.key in _RIGHT:
        return _RIGHT[setting.key]
    if isinstance(setting.type, Boolean):
        return st.booleans()
    if isinstance(setting.type, Whole):
        low, high = setting.type.low, setting.type.high
        # Its limits more often than by chance.
        return st.one_of(_of(low, low + 1, high - 1, high), st.integers(low, high))
    if isinstance(setting.type, Choice):
        return st.sampled_from(setting.type.options)
    if isinstance(setting.type, Text):
        return st.from_regex(setting.type.pattern, fullmatch=True).filter(lambda text: _accepts(setting.type, text))
    raise LookupError(f"{setting.key}: its declaration does not say which values are right; give some in _RIGHT")


def _wrong_values(kind: ValueType, right: Sequence[str] = ()) -> tuple[Any, ...]:
    """What a type refuses; of a text what is made of right ones, and no longer fits."""
    if isinstance(kind, Boolean):
        return "yes", "True", "", 2, 0, [], {}, "null", "é"
    if isinstance(kind, Whole):
        low, high = kind.low, kind.high
        return low - 1, high + 1, -(10**30), "1" * 5000, low + 0.5, f"{low}e0", "", "two", "\uff11", "0x1", [], {}, True, "null"
    if isinstance(kind, Choice):
        return "", *(f"{each}-" for each in kind.options), *_ODD_TEXTS, *_WRONG_TYPES
    if isinstance(kind, Quantity):
        return "", *_NO_QUANTITIES, *(_NO_BYTES if kind.bytes else ()), *_ODD_TEXTS, *_WRONG_TYPES
    if isinstance(kind, Range):
        return "", *_NO_RANGES, *_ODD_TEXTS
    if isinstance(kind, SecretName):
        return *_NO_SECRETS, *_ODD_TEXTS, *_WRONG_TYPES
    if isinstance(kind, Texts):
        elements: tuple[Any, ...] = (*OWN_ARGUMENTS, *_ODD_TEXTS) if kind.element is None else _wrong_values(kind.element, right)
        return *([each] for each in (*elements, 1, None, [], {})), "text", {}, {"0": "a"}, 1, True, "null", "[", ""
    if isinstance(kind, Structure):
        return [], "text", 1, True, "null", "{", ""
    ends = (f"{each}{end}" for each in right for end in ("-", "/", " ", "\uff11", "\n", "/x", "--x", ":", "@"))
    others = (other for each in right for other in (each.upper(), f"-{each}", f" {each}", each * 50, each.partition("/")[0], each[:1]))
    found = (*ends, *others, *_ODD_TEXTS, "" if not kind.takes_empty else " ")
    return *(each for each in found if each and not _accepts(kind, each)), *([] if kind.takes_empty else [""]), *_more(kind)


def _more(kind: ValueType) -> tuple[Any, ...]:
    return tuple(each for each in _WRONG_TYPES if not _accepts(kind, json.dumps(each)))


def _accepts(kind: ValueType, text: str) -> bool:
    notes = Notes(Setting(key="x", type=kind, default="", description="", secret=False), text, {})
    kind.read(text, notes)
    return not notes.problems


def _examples(setting: Setting) -> tuple[str, ...]:
    """A right text, of which wrong ones are made."""
    default = setting.default if isinstance(setting.default, str) else ""
    return (
        default or {"secretsEncryptionKey": "projects/p/locations/r/keyRings/r/cryptoKeys/k", "imagesFrom": "o/p/s"}.get(setting.key, "a"),
    )


_DEFAULTS = defaults()

_DRAWN = [each for each in schema_settings() if each.key != "acceleratorPools"]
#: Setting -> right values.
SETTINGS = {each.key: _right(each) for each in _DRAWN}
#: Setting -> values that are refused whatever the other settings are.
WRONG = {each.key: (*_wrong_values(each.type, _examples(each)), *_WRONG_MAPPINGS.get(each.key, ())) for each in _DRAWN}

_POOL_DECLARATIONS = declared(AcceleratorPool)

#: Key of a pool -> wrong values that its declaration does not tell.
_WRONG_OF_POOL: dict[str, tuple[Any, ...]] = {
    "name": ("system", "n" * 41),
    "machineType": ("e2-standard-2", "ct6e-standard-1", "g2-standard-5", "a4x-highgpu-4g"),
    "reservation": ("Capacity", "projects/p/reservations/r", "projects/my-project/reservations/r/reservationBlocks/b", "r/blocks/b"),
    "accelerator": ("nvidia-tesla-t4",),
    "gpuDriverVersion": ("latest", "535"),
    "tpuTopology": ("9x9",),
    "zones": ([], "asia-northeast1-b", ["b"], ["mars-north1-a"], [1], [None], [["a"]], {}, 1, ["asia-northeast1-é"]),
    "secondaryBootDiskImage": ("image", "global/images/", "projects//global/images/i", "global/images/I"),
}


def _wrong_of_pool(declaration: Setting) -> tuple[Any, ...]:
    """None is a key that is left out."""
    kind = declaration.type
    missing = (None,) if declaration.required else ()
    if isinstance(kind, Whole):
        found: tuple[Any, ...] = (kind.low - 1, kind.high + 1, kind.low + 0.5, f"{kind.low}", float("inf"), float("nan"))
    elif isinstance(kind, Boolean):
        found = ("no", "true", 0, 1)
    else:
        number = 3 if declaration.key == "acceleratorCount" else 1
        return *missing, *_WRONG_OF_POOL.get(declaration.key, ()), "", number, [], {}, True, "\uff11"
    return *missing, *found, "", [], {}


#: Key of a pool -> wrong values; right ones are drawn together (`_pools`).
WRONG_POOL_VALUES = {each.key: _wrong_of_pool(each) for each in _POOL_DECLARATIONS}

_TPU_TYPES = sorted(name for name, each in MACHINE_TYPES.items() if each.kind == "tpu")
#: Number of GPUs -> machine types.
_GPU_TYPES = {
    gpus: sorted(name for name, each in MACHINE_TYPES.items() if each.kind == "gpu" and each.count == gpus)
    for gpus in sorted({each.count for each in MACHINE_TYPES.values() if each.kind == "gpu"})
}

# Built once: what Hypothesis finds out about a strategy, it keeps with it.
_TPUS = st.sampled_from(_TPU_TYPES)
_GPUS = st.sampled_from(list(_GPU_TYPES))
_POOL_NAMES = st.lists(st.one_of(_NAME, _of("p" * 40)).filter(lambda name: name != "system"), min_size=1, max_size=4, unique=True)


@st.composite
def _pools(draw: DrawFn, region: str, zone: str) -> list[dict[str, Any]]:
    """Pools that go together: one TPU generation and topology, one number of GPUs."""
    tpu = draw(_TPUS)
    gpu = _GPU_TYPES[draw(_GPUS)]
    machines = draw(_of((tpu,), gpu, (tpu, *gpu), (tpu, *gpu)))
    names = draw(_POOL_NAMES)
    pools = []
    for name in names:
        machine_type = draw(st.sampled_from(machines))
        machine = MACHINE_TYPES[machine_type]
        most = draw(st.integers(1, 3))
        least = draw(st.integers(0, most))
        optional: dict[str, Any_] = {
            "minNodeCount": st.just(least),
            "initialNodeCount": st.integers(least, most),
            "accelerator": st.just(machine.accelerator),
            "provisioning": _of("on-demand", "spot", "preemptible", *(["flex-start"] if machine.chip.flex_start else [])),
            "locationPolicy": _of("ANY", "BALANCED"),
            "zones": _of([zone], [f"{region}-a"], [f"{region}-a", f"{region}-b"]),
            "diskSizeGb": _of(100, 200, 65536),
            "secondaryBootDiskImage": _of("global/images/i", "projects/my-project/global/images/vllm-1"),
            "enabled": _of(True, True, False),
            **({"tpuTopology": st.just(machine.topology)} if machine.kind == "tpu" else {"gpuDriverVersion": _of("DEFAULT", "LATEST")}),
        }
        pool = {"name": name, "machineType": machine_type, "maxNodeCount": most}
        for key in sorted(draw(st.sets(st.sampled_from(sorted(optional)), max_size=5))):
            pool[key] = draw(optional[key])
        if "initialNodeCount" in pool and "minNodeCount" not in pool:
            pool["minNodeCount"] = least
        pools.append(pool)
    return pools


def _go_together(values: dict[str, Any]) -> None:
    """Takes away what the rest of a file rules out, so that more than a few files are accepted."""
    pools = values["acceleratorPools"]
    nodes = sum(each["maxNodeCount"] * len(each.get("zones", ["z"])) for each in pools if each.get("enabled", True))
    values["replicas"] = max(1, min(values.get("replicas", 1), nodes - 1))
    if not values["replicas"] < values.get("maxReplicas", 0) < nodes:
        values["maxReplicas"] = 0
    values.setdefault("gpuServerDrains", False)
    values["tpuServerDrains"] = False
    if len({MACHINE_TYPES[each["machineType"]].kind for each in pools}) > 1 and values.get("deviceAccess") == "request":
        del values["deviceAccess"]
    if values.get("controlPlaneEndpoint") == "dns":
        values.pop("controlPlaneSourceRanges", None)
    if not values.get("networkPolicy"):
        values.pop("clientNamespaces", None)
    elif values.get("terminationGracePeriodSeconds", _DEFAULTS["terminationGracePeriodSeconds"]) < 40:
        del values["terminationGracePeriodSeconds"]
    for key in ("loadBalancerSourceRanges", "internalLoadBalancer") if values.get("gateway") else ("inferenceGateway",):
        values.pop(key, None)
    if values.get("huggingFaceTokenSecret"):
        values.pop("huggingFaceToken", None)
    if values.get("apiKeySecret"):
        values.pop("apiKey", None)
    if any("secondaryBootDiskImage" in each for each in pools):
        values.pop("imageStreaming", None)
    values["requireApiKey"] = False
    waits = (values.get(key, _DEFAULTS[key]) for key in ("rolloutTimeoutSeconds", "serverStartupSeconds"))
    values["rolloutTimeoutSeconds"] = max(waits)
    if values.get("network"):
        values.pop("systemNodesPerZone", None)
        values["network"] = {**values["network"], "nodeRange": "10.64.0.0/22", "podRange": "10.128.0.0/14"}
    for key, fits in (("cpuRequest", "500m"), ("memoryRequest", "1Gi"), ("gpuEphemeralStorageLimit", "10Gi")):
        values.setdefault(key, fits)


@st.composite
def settings_files(draw: DrawFn, *, good: bool = False) -> SettingsFile:
    """Any file; with `good` one without a wrong value."""
    region = draw(_of(*_REGIONS)) if draw(st.booleans()) else _REGIONS[0]
    zone = f"{region}-{draw(_of('a', 'b'))}"
    values: dict[str, Any] = {"region": region, "zone": zone, "acceleratorPools": draw(_pools(region, zone))}
    free = sorted(set(SETTINGS) - {"region", "zone"})
    for key in sorted(draw(st.sets(st.sampled_from(free), max_size=12))):
        values[key] = draw(SETTINGS[key])
    if good or draw(st.integers(0, 3)):
        _go_together(values)
    wrong = [] if good else [draw(_wrong(values)) for _ in range(draw(_of(0, 0, 1, 1, 2, 4)))]
    return SettingsFile(values, tuple(dict.fromkeys(wrong)))


@st.composite
def _wrong(draw: DrawFn, values: dict[str, Any]) -> str:
    """Makes one thing of a file wrong, and says at which field."""
    what = draw(_of("value", "value", "value", "pool", "pool", "unknown", "missing", "pools"))
    pools = values.get("acceleratorPools")
    if what == "pool" and isinstance(pools, list) and pools and isinstance(pools[-1], dict):
        index = draw(st.integers(0, len(pools) - 1))
        if not isinstance(pools[index], dict):
            return f"acceleratorPools[{index}]"
        key = draw(_of("unknown", *WRONG_POOL_VALUES))
        if key == "unknown":
            pools[index][key] = 1
        elif (value := draw(_of(*WRONG_POOL_VALUES[key]))) is None:
            pools[index].pop(key, None)
        else:
            pools[index][key] = value
        return f"acceleratorPools[{index}].{key}"
    if what == "pools" and isinstance(pools, list) and pools:
        kind = draw(_of("none", "text", "element", "twice", "many"))
        if kind == "element":
            pools.append(draw(_of(None, [], "l4", 1, True)))
            return f"acceleratorPools[{len(pools) - 1}]"
        if kind == "twice" and isinstance(pools[-1], dict) and pools[-1].get("name") is not None:
            pools.append(dict(pools[-1]))
            return f"acceleratorPools[{len(pools) - 1}].name"
        if kind == "many" and isinstance(pools[0], dict):
            values["acceleratorPools"] = [{**pools[0], "name": f"n{index}"} for index in range(11)]
        else:
            values["acceleratorPools"] = copy.copy(draw(_of([], {}, "text", "[", 1, True, "null")))
        return "acceleratorPools"
    if what == "unknown":
        key = draw(_of("modle", "Region", "acceleratorPool", "x", "hugging", "gcp:zone", "tpu-fungibility:model"))
        values[key] = draw(_of("secret", 1, [], {}, True))
        return str(key)
    if what == "missing":
        key = draw(_of("acceleratorPools", "gcp:project"))
        values[key] = None
        return str(key)
    key = draw(st.sampled_from(sorted(SETTINGS)))
    values[key] = draw(_of(*WRONG[key]))
    return key
