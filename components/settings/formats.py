"""The formats of single settings: names, images, ranges, arguments and labels, each with its reason and its fix.

Left out: rules between settings (`checks`), and structures with a file of their own (pools, network, maintenance window).
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.catalog.machines import KINDS, Kind
from components.catalog.vllm_options import NO_VALUE, SEVERAL_VALUES
from components.settings.accelerator_pool import (
    MAX_NAME_LENGTH,
    NAME_PATTERN,
    REGION_PATTERN,
    ZONE_PATTERN,
    AcceleratorPool,
    is_zone,
    parse_pools,
)
from components.settings.network_ranges import as_range
from components.settings.problems import Problem, nearest
from components.settings.reader import Notes, ValueType
from components.settings.secret_reference import SecretReference, parse_reference
from components.settings.value_types import Secret, Structure, Text, Texts

#: A reference that names its registry, with a tag or a digest. What stands first is a registry if it has a dot or a colon, or is
#: localhost; else Docker takes it for a part of a repository on Docker Hub: https://github.com/distribution/reference
_IMAGE = re.compile(
    r"(?P<name>(?:localhost|(?=[a-z0-9-]*[.:])[a-z0-9][a-z0-9.-]*)(?::[0-9]+)?(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)+)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

#: https://docs.cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.notificationChannels
_NOTIFICATION_CHANNEL = re.compile(r"projects/[^/\s]+/notificationChannels/[0-9]+")

#: The limit of one alert policy: https://docs.cloud.google.com/monitoring/quotas (unverified).
_MAX_NOTIFICATION_CHANNELS = 16

#: https://docs.cloud.google.com/resource-manager/docs/labels-overview#requirements, without its international letters.
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_MAX_LABELS = 64

_LABEL_FIX = "use up to 63 lower-case letters, digits, hyphens and underscores"

#: Arguments of vLLM's server that the program gives itself, or whose meaning it rests on -> what decides it instead.
OWN_ARGUMENTS = {
    "--host": "the program listens where its probes look",
    "--port": "`servicePort` is the clients' port",
    "--uds": "the program listens where its probes look",
    "--model": "`model` decides it",
    **dict.fromkeys(("--tensor-parallel-size", "-tp"), "`acceleratorPools` decide it"),
    # Times the chips of tensor parallelism, which has them all.
    **dict.fromkeys(
        (
            "--pipeline-parallel-size",
            "-pp",
            "--data-parallel-size",
            "-dp",
            "--data-parallel-size-local",
            "-dpl",
            "--prefill-context-parallel-size",
            "-pcp",
        ),
        "tensor parallelism has every chip of the machine already",
    ),
    **dict.fromkeys(("--nnodes", "-n", "--node-rank", "-r"), "each replica is one machine, and would wait for others that never come"),
    "--headless": "it is for a machine that another one's server commands; nothing would answer the probes",
    "--max-model-len": "`maxModelLen` decides it",
    "--revision": "`modelRevision` decides it",
    "--tokenizer-revision": "`modelRevision` decides it",
    "--generation-config": "it is `auto` on every accelerator, or replicas would answer differently",
    "--max-num-queued-reqs": "`maxQueuedRequests` decides it",
    "--otlp-traces-endpoint": "`tracesEndpoint` decides it",
    "--enable-request-id-headers": "`requestIds` decides it",
    "--shutdown-timeout": "`terminationGracePeriodSeconds`, `gpuServerDrains` and `tpuServerDrains` decide it",
    "--served-model-name": "clients ask for the output `model`, which is the setting's",
    # Where everybody who may look at a pod reads it, and in the stack's file in the clear.
    "--api-key": "`apiKey` or `apiKeySecret` gives it without showing it",
    "--hf-token": "`huggingFaceToken` or `huggingFaceTokenSecret` gives it without showing it",
    # The probes and the load balancer speak HTTP.
    "--ssl-keyfile": "the probes and the load balancer speak plain HTTP",
    "--ssl-certfile": "the probes and the load balancer speak plain HTTP",
}

#: What word processors make of `--`.
_DASHES = "\N{EM DASH}\N{EN DASH}\N{FIGURE DASH}\N{MINUS SIGN}\N{NON-BREAKING HYPHEN}"

#: Projects of an organisation's own domain look like example.com:name.
PROJECT = Text(
    re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"),
    "a project ID",
    "give the ID (6 to 30 lower-case letters, digits and hyphens), not the name or the number",
)


def _no_zone(region: str, notes: Notes) -> None:
    if is_zone(region):
        within = region.rpartition("-")[0]
        notes.refuse(f"is a zone of region {within}", f"set region to {within}, and zone to {region}")


REGION = Text(re.compile(rf"{REGION_PATTERN}|{ZONE_PATTERN}"), "a region of Google Cloud", "give one such as asia-northeast1", _no_zone)
#: Which region it has to lie in, `checks` knows.
ZONE = Text(re.compile(ZONE_PATTERN), "a zone of Google Cloud", "give one such as asia-northeast1-b")
REPOSITORY = Text(
    re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"),
    "a valid repository name",
    "use up to 63 lower-case letters, digits and hyphens, a letter first",
)
IMAGE_NAME = Text(
    re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*"),
    "a valid image name",
    "use lower-case letters and digits, with single dots, underscores or hyphens between them",
)
#: What huggingface_hub's `validate_repo_id` takes, with an organisation:
#: https://huggingface.co/docs/huggingface_hub/package_reference/utilities#huggingface_hub.utils.validate_repo_id
MODEL = Text(
    re.compile(r"(?!.*(?:--|\.\.))(?=.{1,96}$)[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?(?<!\.git)"),
    "a Hugging Face model",
    "give ORGANISATION/NAME, such as Qwen/Qwen2-1.5B: up to 96 letters, digits, hyphens, dots and underscores",
)
#: What git and huggingface_hub take for a revision.
REVISION = Text(
    re.compile(r"(?![./-])(?!.*(?:\.\.|//))[A-Za-z0-9_./-]{1,255}(?<![./])"),
    "a revision of a repository",
    "give a commit's 40 hexadecimal digits, a tag or a branch",
    takes_empty=True,
)
NAMESPACE = Text(_DNS_LABEL, "a Kubernetes namespace", "use up to 63 lower-case letters, digits and hyphens")
#: The organisation of a backend without any is `organization`.
STACK = Text(
    re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+"),
    "a full stack name",
    "give ORGANISATION/PROJECT/STACK (organization/PROJECT/STACK on a self-managed backend)",
    takes_empty=True,
)
#: Which region it has to lie in, `checks` knows.
CRYPTO_KEY = Text(
    re.compile(r"projects/[^/\s]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}"),
    "a resource name of a Cloud KMS key",
    "give projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY",
    takes_empty=True,
)
#: A key goes into an HTTP header, so no spaces; shorter ones can be guessed.
API_KEY = Secret(
    re.compile(r"[\x21-\x7e]{16,}"),
    "is shorter than 16 characters, or has spaces or letters beyond ASCII",
    "make one with `openssl rand -hex 32`",
)
HUGGING_FACE_TOKEN = Secret(
    re.compile(r"[\x21-\x7e]*"),
    "has spaces, line breaks or letters beyond ASCII",
    "`pulumi config set --secret huggingFaceToken` with the token alone",
)


def _short_enough(name: str, notes: Notes) -> None:
    if len(name) > MAX_NAME_LENGTH:
        notes.refuse(f"has {len(name)} characters, and GKE allows {MAX_NAME_LENGTH}", "shorten it")


CLUSTER_NAME = Text(
    NAME_PATTERN, "a name that GKE allows", "use lower-case letters, digits and hyphens, a letter first and no hyphen last", _short_enough
)


def _not_of_gke(name: str, notes: Notes) -> None:
    for prefix in ("gke", "autopilot"):
        if name.startswith(prefix):
            notes.refuse(f"begins with {prefix}, which GKE refuses", "choose another name")


COMPUTE_CLASS = Text(
    _DNS_LABEL,
    "a valid ComputeClass name",
    "use up to 63 lower-case letters, digits and hyphens, since the name is also a node label's value",
    _not_of_gke,
)


#: What a tag says of the platform, and not of the version.
_PLATFORM = re.compile(r"x86[_-]64|amd64|aarch64|arm64|cu(?:da)?[0-9.]+|rocm[0-9.]*|py(?:thon)?[0-9.]+|ubuntu[0-9.]*")


def _versioned(image: str, notes: Notes) -> None:
    match = _IMAGE.fullmatch(image)
    assert match is not None
    # A version, a date or a commit has a digit; `latest`, `nightly`, `main` and `dev` have none, and move.
    if match["digest"] is None and not re.search("[0-9]", _PLATFORM.sub("", match["tag"] or "")):
        notes.refuse("does not say which version, so two builds could differ", "add a tag with a version, or a digest")


#: Empty is allowed for an accelerator that needs no base (`checks`).
BASE_IMAGE = Text(
    _IMAGE,
    "an image reference with a registry",
    "give REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:DIGEST, such as docker.io/vllm/vllm-openai:v0.31.0",
    _versioned,
    takes_empty=True,
)


def is_digest_reference(value: Any) -> bool:
    """Whether it is an image reference that names registry and digest, and so the same image for good."""
    match = _IMAGE.fullmatch(value) if isinstance(value, str) else None
    return match is not None and match["digest"] is not None


def _parse_images(value: Any, field: str, known: Mapping[str, Any]) -> tuple[dict[Kind, str], list[Problem]]:
    """Accelerator -> reference by digest; what is wrong is left out."""
    if not isinstance(value, dict):
        fix = "give accelerator: REGISTRY/REPOSITORY@sha256:DIGEST, one for each of gpu and tpu"
        return {}, [Problem(field, value, "is not a mapping", fix)]
    problems = []
    for name, reference in value.items():
        if name not in KINDS:
            problems.append(Problem(f"{field}.{name}", reference, f"is for {name}, which is not an accelerator", nearest(name, KINDS)))
        elif not is_digest_reference(reference):
            fix = "give REGISTRY/REPOSITORY@sha256:DIGEST, such as the `images` output of the stack that built it"
            problems.append(Problem(f"{field}.{name}", reference, "is not an image reference by digest", fix))
    return {kind: value[kind] for kind in KINDS if is_digest_reference(value.get(kind))}, problems


IMAGES = Structure(_parse_images, {})


class SecretName(ValueType):
    """The name of a Secret Manager secret; empty for none."""

    name = "text"
    takes_empty = True

    def read(self, value: Any, notes: Notes) -> SecretReference | None:
        if not value:
            return None
        reference = parse_reference(str(value))
        if reference is None:
            notes.refuse(
                "is not the name of a Secret Manager secret",
                "give NAME or projects/PROJECT/secrets/NAME, with /versions/NUMBER behind it for another than the latest",
            )
        return reference


SECRET_NAME = SecretName()


class Range(ValueType):
    """An IPv4 range; the element of a list."""

    name = "text"

    def read(self, value: Any, notes: Notes) -> str:
        try:
            as_range(value)
        except ValueError as error:
            notes.refuse(f"is not an IPv4 range ({error})", "give CIDR notation such as 203.0.113.0/24")
        return str(value)


RANGES = Texts(Range())
NAMESPACES = Texts(NAMESPACE)
TRACES_ENDPOINT = Text(
    re.compile(r"https?://[A-Za-z0-9.-]+:[0-9]+(/v1/traces)?"),
    "the address of an OpenTelemetry collector",
    "give http://HOST:PORT (gRPC) or http://HOST:PORT/v1/traces (HTTP)",
    takes_empty=True,
)
RUNBOOK_URL = Text(
    re.compile(r"https://[^\s#?@]+"), "an https URL of a page", "give the whole address, without #, ? and credentials", takes_empty=True
)
NOTIFICATION_CHANNELS = Texts(
    Text(
        _NOTIFICATION_CHANNEL,
        "the name of a notification channel",
        "give projects/PROJECT/notificationChannels/NUMBER, as `gcloud beta monitoring channels list` prints it",
    ),
    most=_MAX_NOTIFICATION_CHANNELS,
)


def _arguments(arguments: tuple[str, ...], notes: Notes) -> None:
    """Each is an option, an option with its value, or a value of the option before it; none contradicts what the program derives."""
    #: Values that the option before may still have.
    room = 0.0
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not argument.isprintable() or not argument:
            notes.refuse("is not a command line argument", "remove it, or what cannot be printed in it", value=argument)
        elif argument[0] in _DASHES:
            reason = "begins with a dash that is not a hyphen, so vLLM would take it for a value"
            notes.refuse(reason, "write -- in its place", value=argument)
        elif not argument.startswith("-"):
            if room < 1:
                reason, fix = "has no option before it that takes it; the server would not start", "remove it, or write --OPTION=VALUE"
                notes.refuse(reason, fix, value=argument)
            room -= 1
        else:
            room = 0 if equals else _most_values(name)
            if any(each.isspace() for each in name):
                fix = "write --OPTION=VALUE, or make the value an element of its own"
                notes.refuse("has a space in its option's name", fix, value=argument)
            elif own := _own_argument(argument):
                # Its value may be a secret.
                notes.refuse("is set by the program itself", f"remove it; {OWN_ARGUMENTS[own]}", value=name)
            elif equals and _most_values(name) == 0:
                notes.refuse("has a value and takes none; the server would not start", f"write {name} alone", value=argument)


SERVER_ARGUMENTS = Texts(rule=_arguments)


def _most_values(option: str) -> float:
    """Of an option that the catalogue does not have, 1."""
    name = option.replace("_", "-")
    if name in NO_VALUE or (name.startswith("--no-") and f"--{name[5:]}" in NO_VALUE):
        return 0
    return math.inf if name in SEVERAL_VALUES else 1


def _own_argument(argument: str) -> str | None:
    """Which of the program's own arguments this is, if any: vLLM also takes underscores for hyphens, and beginnings of names."""
    name = argument.partition("=")[0]
    if not name.startswith("--"):
        # Also -n2.
        return next((each for each in (name, name[:2]) if each in OWN_ARGUMENTS), None)
    name = name.replace("_", "-")
    if len(name) < 4:
        return None
    # A whole name that is also the beginning of another's.
    return None if name == "--tokenizer" else next((each for each in OWN_ARGUMENTS if each.startswith(name)), None)


def _parse_labels(value: Any, field: str, known: Mapping[str, Any]) -> tuple[dict[str, str], list[Problem]]:
    if not isinstance(value, dict):
        return {}, [Problem(field, value, "is not a mapping", "give label: value, such as team: inference")]
    problems = []
    if len(value) > _MAX_LABELS:
        problems.append(Problem(field, len(value), f"is more labels than the {_MAX_LABELS} that Google allows", "remove some"))
    for name, text in value.items():
        below = f"{field}.{name}"
        if not _LABEL_KEY.fullmatch(str(name)):
            problems.append(Problem(below, text, "is not a valid label name", f"{_LABEL_FIX}, a letter first"))
        elif str(name).startswith("goog"):
            problems.append(Problem(below, text, "begins with goog, which Google keeps for itself", "choose another name"))
        if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
            problems.append(
                Problem(below, text, "is not a valid label value", f"{_LABEL_FIX}, in quotes if it looks like a number or a date")
            )
    return {name: text for name, text in value.items() if isinstance(text, str)}, problems


LABELS = Structure(_parse_labels, {})


def _parse_pools(value: Any, field: str, known: Mapping[str, Any]) -> tuple[Sequence[AcceleratorPool], list[Problem]]:
    return parse_pools(value, region=known["region"], zone=known["zone"])


POOLS = Structure(_parse_pools, (), "list")


def is_range(text: str) -> bool:
    """Whether it is IPv4 CIDR."""
    try:
        as_range(text)
    except ValueError:
        return False
    return True


#: A public range with more addresses than this is the internet.
_WIDE_PREFIX = 8


def is_internet(source_ranges: Sequence[str]) -> bool:
    """Whether a public load balancer with these ranges can be reached from just anywhere."""
    networks = [ipaddress.IPv4Network(each, strict=False) for each in source_ranges if is_range(each)]
    return not source_ranges or any(each.prefixlen < _WIDE_PREFIX and not each.is_private for each in networks)
