"""What only hardware shows (docs/unverified.md): role, device, driver, shared memory and first token of a pod of each pool, and a drain.

By kubectl inside the pods, which a sandbox does not simulate; first token and drain are checked there as well. Left out: load.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import requests

from components.catalog.capacity import shared_memory_gib
from ops.findings import Finding, Status, failed, ok, skipped
from ops.smoke.kubectl import KubectlError
from ops.smoke.service import Api, Failure, Service
from ops.smoke.serving_pools import ServingPod, UnknownPool, Unreached
from ops.smoke.target import Target

#: Prints `key=value` lines: the role that the entrypoint has taken, each device, the driver, and the KiB of /dev/shm.
LOOK = """
for folder in "${FUNGIBILITY_RUN_DIR:-/tmp/fungibility}" /dev/shm/fungibility; do
    grep -m 1 '^role=' "$folder/role.$ACCELERATOR" 2>/dev/null && break
done
PATH=$PATH:/usr/local/nvidia/bin
export LD_LIBRARY_PATH="/usr/local/nvidia/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
for device in /dev/vfio/[0-9]*; do [ -c "$device" ] && echo "device=$device"; done
nvidia-smi -L 2>/dev/null | sed -n 's/^\\(GPU [0-9]*: [^(]*\\).*/device=\\1/p'
nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | sed -n '1s/^/driver=/p'
df -kP /dev/shm | { read -r _; read -r _ size _; echo "shm=$size"; }
"""

#: The rows that need a look inside the pod.
_INSIDE = ("role", "device", "driver", "shared memory")
_DEVICES = ("google.com/tpu", "nvidia.com/gpu")

#: Of NVIDIA's driver, for the default base image (CUDA 13).
_DRIVER = 580

#: What containerd gives a container.
_SHARED_MIB = 64

_PROMPT, _TOKENS = "Why is the sky blue?", 64
_CLIENTS, _BEFORE_SECONDS = 4, 5.0
_LOGS = "`kubectl logs POD -c CONTAINER` of both containers has the entrypoint's decision and its evidence"


def rows(
    target: Target, pods: list[ServingPod] | UnknownPool, *, seconds: float, first_token: float, key: str, api: Api
) -> Iterator[Finding]:
    """`seconds` is for each request; `first_token` is the limit. Deletes one of several pods, for the row `drain`."""
    if isinstance(pods, UnknownPool):
        yield skipped("hardware", reason=str(pods))
        return
    for pod in {pod.pool: pod for pod in reversed(pods)}.values():
        yield from _inside(pod)
        yield _first_token(target, pod, seconds=seconds, limit=first_token, key=key, api=api)
    yield _drain(target, pods, seconds=seconds, key=key, api=api)


def _inside(pod: ServingPod) -> Iterator[Finding]:
    """What the containers say, and what the one that serves sees of its machine."""
    names, kubectl = [f"{row} on {pod.pool}" for row in _INSIDE], pod.kubectl
    try:
        spec = json.loads(kubectl("get", "pod", pod.name, "--output=json"))["spec"]
        node = json.loads(kubectl("get", "node", spec["nodeName"], "--output=json"))["status"]
        if node["nodeInfo"]["containerRuntimeVersion"].startswith("sandbox:"):
            yield from (skipped(name, reason="not on the sandbox") for name in names)
            return
        containers = [each["name"] for each in spec["containers"] if each["name"].startswith("vllm-")]
        seen = {name: facts(kubectl("exec", pod.name, "--container", name, "--", "sh", "-c", LOOK)) for name in containers}
    except KubectlError as error:
        fix = "allow `create` of pods/exec, and install kubectl with the cluster's login"
        yield from (skipped(name, reason=str(error), fix=fix) for name in names)
        return
    roles = {name: each.get("role", "unknown") for name, each in seen.items()}
    told = ", ".join(f"{name} {role}" for name, role in roles.items())
    good = sorted(roles.values(), reverse=True) == ["serving", *["idle"] * (len(roles) - 1)]
    yield _judged(names[0], told, good, "one container serves, and every other one idles", _LOGS)
    if not good:
        return
    found = next(each for name, each in seen.items() if roles[name] == "serving")
    chips = sum(int(node["capacity"].get(name, 0)) for name in _DEVICES)
    devices = found.get("device", "none")
    good = (devices.count(", ") + 1 if devices != "none" else 0) == chips
    yield _judged(names[1], devices, good, f"the node's capacity says {chips}", "see deviceAccess in docs/hardening.md")
    if roles.get("vllm-gpu") == "serving":
        driver = found.get("driver", "unknown")
        major = driver.partition(".")[0]
        good, fix = major.isdigit() and int(major) >= _DRIVER, f"gpuDriverVersion: LATEST of pool {pod.pool}"
        yield _judged(names[2], driver, good, f"the default GPU image needs {_DRIVER} or newer", fix, "warning")
    shared, wanted = int(found.get("shm", "0")) // 1024, 1024 * shared_memory_gib(chips) if chips > 1 else _SHARED_MIB
    fix = f"`kubectl get pod {pod.name} --output yaml` shows the volume at /dev/shm: `pulumi up` mounts it"
    yield _judged(names[3], f"{shared} MiB", shared >= wanted, f"{chips} chips need {wanted} MiB", fix)


def _judged(name: str, value: str, good: bool, reason: str, fix: str, otherwise: Status = "failed") -> Finding:
    return ok(name, value) if good else Finding(field=name, value=value, reason=reason, fix=fix, status=otherwise)


def facts(printed: str) -> dict[str, str]:
    """The value of each key that `LOOK` has printed; several are joined by commas."""
    found: dict[str, str] = {}
    for key, _, value in (line.strip().partition("=") for line in printed.splitlines()):
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def _first_token(target: Target, pod: ServingPod, *, seconds: float, limit: float, key: str, api: Api) -> Finding:
    """Of a second request; the first one may compile."""
    name = f"first token on {pod.pool}"
    try:
        with pod.service(seconds=seconds, key=key, api=api) as service:
            asked = [service.ask(target.model, _PROMPT, stream=True, max_tokens=_TOKENS, min_tokens=1, temperature=0) for _ in range(2)]
    except Failure as failure:
        if isinstance(failure, Unreached):
            return skipped(name, reason=str(failure), fix=failure.fix)
        return failed(name, failure.kind, reason=str(failure), fix=failure.fix)
    cold, warm = (each.first_token_seconds or 0.0 for each in asked)
    told, fix = f"{warm:.2f} s, and {cold:.2f} s of the request before", "see vllm:time_to_first_token_seconds of the pod's /metrics"
    return _judged(name, told, warm <= limit, f"--max-first-token is {limit:g} s", fix)


def _drain(target: Target, pods: list[ServingPod], *, seconds: float, key: str, api: Api) -> Finding:
    """Clients that keep their connections ask without a pause while a pod is deleted."""
    if len(pods) < 2:
        return skipped("drain", reason="one pod is ready, and a drain needs another that serves on", fix="`replicas: 2`, then again")
    results: Counter[str] = Counter()
    over = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            service = Service(target.service_url, seconds=seconds, key=key, api=api, session=session)
            while not over.is_set():
                try:
                    reason = service.ask(target.model, _PROMPT, max_tokens=_TOKENS, min_tokens=1).finish_reason
                    results["answered" if reason in ("stop", "length") else f"finish_reason {reason}"] += 1
                except Failure as failure:
                    results[failure.kind] += 1
                    over.wait(0.2)

    pod = pods[-1]
    with ThreadPoolExecutor(_CLIENTS) as clients:
        for _ in range(_CLIENTS):
            clients.submit(ask)
        try:
            time.sleep(_BEFORE_SECONDS)
            # It waits for the pod's end; no grace period is longer.
            pod.kubectl("delete", "pod", pod.name, seconds=660.0)
            time.sleep(_BEFORE_SECONDS)
        except KubectlError as error:
            return skipped("drain", reason=str(error), fix="allow `delete` of pods")
        finally:
            over.set()
    told = f"{', '.join(f'{count} {result}' for result, count in sorted(results.items()))} while {pod.name} ended"
    reason = "a pod that ends finishes its requests and closes its connections"
    return _judged("drain", told, set(results) == {"answered"}, reason, "see *Staying up* in docs/operate.md, and the server's log")
