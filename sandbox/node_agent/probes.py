"""Startup, readiness and liveness probes: one attempt (`ProbeTarget`), and the thread that repeats it (`Prober`).

The thresholds and times are the kubelet's, and real seconds: what they guard against (a server that hangs, a drain) is real, too. Only
the wait for a container's first readiness is on the sandbox's clock, with at most one attempt a second, since a real
second there would count as minutes of the server's start. Left out: gRPC and TCP probes (they fail, with a message that
says so), headers and redirects of HTTP ones, and the kubelet's random delay before the first attempt.
"""

import http.client
import math
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.host.addresses import to_loopback

Object = dict[str, Any]
Kind = Literal["Startup", "Readiness", "Liveness"]

#: An attempt starts a process; more often than this they would take the machine from what they wait for.
_LEAST_PERIOD_SECONDS = 1.0


class ProbeFailure(Exception):
    """An attempt failed; the message is the kubelet's."""


class ProbeError(Exception):
    """An attempt could not be made at all; the kubelet counts it neither as success nor as failure."""


@dataclass(frozen=True)
class ProbeTarget:
    """A container to be probed. `execute` runs a command in it, with a timeout, and gives exit code and output."""

    pod_address: str
    container: Object
    execute: Callable[[list[str], float], tuple[int, str]]

    def attempt(self, probe: Object) -> None:
        """Raises `ProbeFailure` or `ProbeError` unless the attempt succeeds."""
        timeout = float(probe.get("timeoutSeconds") or 1)
        if action := probe.get("exec"):
            self._exec(action, timeout)
        elif action := probe.get("httpGet"):
            self._http_get(action, timeout)
        else:
            raise ProbeFailure("the sandbox makes exec and httpGet probes, and no others")

    def _exec(self, action: Object, timeout: float) -> None:
        try:
            code, output = self.execute(list(action.get("command") or []), timeout)
        except TimeoutError as error:
            raise ProbeFailure(str(error)) from error
        except OSError as error:
            raise ProbeError(f"{error.filename or 'command'}: {error.strerror}") from error
        if code != 0:
            raise ProbeFailure(output.strip() or f"command exited with {code}")

    def _http_get(self, action: Object, timeout: float) -> None:
        """One GET: 200 to 399 is success."""
        port = port_number(action["port"], self.container)
        scheme = (action.get("scheme") or "HTTP").lower()
        path = "/" + (action.get("path") or "/").removeprefix("/")
        url = f"{scheme}://{self.pod_address}:{port}{path}"
        host = to_loopback(self.pod_address)
        connection = (
            http.client.HTTPSConnection(host, port, timeout=timeout, context=_unverified())
            if scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=timeout)
        )
        try:
            connection.request("GET", path, headers={"User-Agent": "kube-probe/sandbox", "Accept": "*/*", "Connection": "close"})
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            raise ProbeFailure(f'Get "{url}": {_reason(error)}') from error
        finally:
            connection.close()
        if not 200 <= status < 400:
            raise ProbeFailure(f"HTTP probe failed with statuscode: {status}")


def port_number(port: int | str, container: Object) -> int:
    """A probe's port, which may be the name of one of the container's. Raises `ProbeError`."""
    if isinstance(port, int):
        return port
    for each in container.get("ports") or []:
        if each.get("name") == port:
            return int(each["containerPort"])
    if port.isdigit():
        return int(port)
    raise ProbeError(f"couldn't find port: {port} in container {container.get('name')}")


class Counter:
    """Successes and failures in a row, and what they make of the container."""

    def __init__(self, *, healthy: bool, success_threshold: int, failure_threshold: int) -> None:
        self.healthy = healthy
        self._thresholds = {True: success_threshold, False: failure_threshold}
        self._last = healthy
        self._run = 0

    def add(self, success: bool) -> bool | None:
        """The container's health once a threshold is reached (each time that it is, again), None before."""
        self._run = self._run + 1 if success == self._last else 1
        self._last = success
        if self._run < self._thresholds[success]:
            return None
        self.healthy = success
        return success


class _Ticker:
    """When an attempt is due: a period after the last one *began*, however long it took, as of the kubelet's Go ticker.

    https://github.com/kubernetes/kubernetes, pkg/kubelet/prober/worker.go: one tick that passed meanwhile is made up for at once,
    and more are dropped.
    """

    def __init__(self) -> None:
        self._next: float | None = None

    def tick(self, period: float) -> None:
        """An attempt begins now, and the next is due after `period` seconds."""
        now = time.monotonic()
        if self._next is None:
            self._next = now
        self._next += period * (1 + max(0, math.floor((now - self._next) / period)))

    @property
    def left(self) -> float:
        """Seconds until the next attempt."""
        return 0.0 if self._next is None else max(0.0, self._next - time.monotonic())


class Prober:
    """Repeats one probe until stopped.

    `on_result(kind, healthy)` is called on every attempt that decides (of a readiness probe: when its answer changes),
    `on_failure(message)` before it on every attempt that fails or cannot be made.
    """

    def __init__(
        self,
        kind: Kind,
        probe: Object,
        target: ProbeTarget,
        *,
        elapsed: float,
        speed: float = 1.0,
        on_result: Callable[[Kind, bool], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._kind = kind
        self._speed = speed
        self._probe = probe
        self._target = target
        self._on_result = on_result
        self._on_failure = on_failure
        self._stopping = threading.Event()
        # The delay counts from the start of the container, which may be a while ago if there is a startup probe.
        self._delay = max(0.0, float(probe.get("initialDelaySeconds") or 0) - elapsed)
        threading.Thread(target=self._run, name=f"{kind} {target.container['name']}", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        counter = Counter(
            healthy=self._kind == "Liveness",
            success_threshold=int(self._probe.get("successThreshold") or 1),
            failure_threshold=int(self._probe.get("failureThreshold") or 3),
        )
        period = float(self._probe.get("periodSeconds") or 10)
        first_period = max(period / self._speed, min(period, _LEAST_PERIOD_SECONDS))
        was_ready = self._kind == "Liveness"
        told: bool | None = None
        ticker = _Ticker()
        wait = self._delay
        while not self._stopping.wait(wait):
            ticker.tick(period if was_ready else first_period)
            message = ""
            try:
                self._target.attempt(self._probe)
            except ProbeFailure as failure:
                message = f"{self._kind} probe failed: {failure}"
            except ProbeError as error:
                self._on_failure(f"{self._kind} probe errored and resulted in unknown state: {error}")
                wait = ticker.left
                continue
            wait = ticker.left
            if self._stopping.is_set():
                return
            if message:
                self._on_failure(message)
            decision = counter.add(not message)
            if decision is None or (decision is told and self._kind == "Readiness"):
                continue
            told = decision
            was_ready = was_ready or decision
            self._on_result(self._kind, decision)
            if self._kind == "Startup" or (self._kind == "Liveness" and not decision):
                # What has started is not asked again; what failed is restarted, and gets probes of its own.
                return


def _unverified() -> ssl.SSLContext:
    # As the kubelet's: a pod's certificate is not in its name.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "context deadline exceeded"
    if isinstance(error, ConnectionRefusedError):
        return "connect: connection refused"
    return str(error) or type(error).__name__
