"""The drill `door`: requests go on through the gateway and, beside it, a plain Service of the same pods, while planned things happen.

Four clients at once, so that each event strikes all of them alike: through the Service with connections kept open; through the
gateway over HTTP/1.1 with connections kept open, and over one HTTP/2 connection; and through the gateway with retries, as OpenAI's
client does with `max_retries`. Every other request is a stream. What is planned may lose nothing through the gateway; with retries,
no request but a stream that had begun may fail, whatever happens. What comes unannounced is `door_faults`. Left out: faults of a
whole zone, and a machine whose packets vanish: here a connection to a machine that is gone is reset, and there it hangs until the
health check and the client's patience end it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from sandbox.cli.client import CommandFailed, Sandbox, fresh_sandbox
from sandbox.cli.traffic import Report, Traffic
from sandbox.google.latencies import NEG_SECONDS
from trials.drills import events
from trials.results import Options, Result

#: As README says for OpenAI's client.
RETRIES = 5

#: Requests a second, of each client.
_RATE = 2.0

#: Answers of the stand-in of 0.3 to 4 s.
_TOKENS = (16, 64, 200)

_BEFORE_SECONDS = 5.0

#: Longer than a server that hangs takes to be restarted, which lets go of what it holds.
_ANSWER_SECONDS = 150.0
_RESTART_SECONDS = 120.0

_PLAIN = "plain"

#: Clients by what the report calls them.
_CLIENTS: Mapping[str, Mapping[str, Any]] = {
    "Service, HTTP/1.1 kept open": {"keep_alive": True},
    "gateway, HTTP/1.1 kept open": {"keep_alive": True},
    "gateway, HTTP/2": {"http2": True},
    f"gateway, HTTP/1.1, {RETRIES} retries": {"keep_alive": True, "retries": RETRIES},
}

_SETTINGS: dict[str, Any] = {
    "keepLastReplica": True,
    "replicas": 2,
    "gateway": {"class": "gke-l7-regional-external-managed", "hostName": "llm.example.com", "certificate": {"dnsAuthorization": True}},
}


def run(options: Options) -> Iterator[Result]:
    yield from drill(options, _PLANNED)


def drill(options: Options, planned_or_not: Mapping[str, Event]) -> Iterator[Result]:
    """The results of some events, on a sandbox of its own."""
    with fresh_sandbox("drill-door") as sandbox:
        sandbox.command("up", "--prepare", "--server", options.server)
        service = _Service(sandbox)
        service.deploy()
        sandbox.use_doors()
        for name, event in options.sample(list(planned_or_not.items())):
            try:
                yield from event(service, name)
            except CommandFailed as error:
                yield Result(event=name, tried=1, survived=0, recovery=f"the event did not come to its end: {error}")


@dataclass
class _Service:
    sandbox: Sandbox

    def deploy(self, **changes: Any) -> None:
        events.deploy(self.sandbox, **_SETTINGS, acceleratorPools=events.cold_pools(self.sandbox), **changes)

    def settle(self, count: int) -> None:
        self.sandbox.command("scale", str(count))
        # A new pod is an endpoint, and has been looked at, some seconds after it is ready.
        time.sleep(NEG_SECONDS + 2)

    def wait_for(self, count: int) -> None:
        events.wait_until(lambda: len(events.serving(self.sandbox)) == count, 120, f"{count} ready replicas")

    def plain_url(self) -> str:
        """Of a Service that Google's network load balancer serves, for the same pods."""
        service = yaml.safe_load(self.sandbox.kubectl("get", "service", "vllm-service", "-o", "yaml"))
        spec = {"type": "LoadBalancer", "selector": service["spec"]["selector"], "ports": service["spec"]["ports"]}
        ports = [{key: value for key, value in each.items() if key != "nodePort"} for each in spec["ports"]]
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": _PLAIN}, "spec": {**spec, "ports": ports}}
        namespace = service["metadata"]["namespace"]
        self.sandbox.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(body))
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        events.wait_until(lambda: self.sandbox.kubectl("get", "service", _PLAIN, "-n", namespace, "-o", path), 30, "an address")
        return f"http://{self.sandbox.kubectl('get', 'service', _PLAIN, '-n', namespace, '-o', path)}:{ports[0]['port']}/v1"

    @contextmanager
    def under_load(self, *, after: float) -> Iterator[dict[str, Report]]:
        """Requests of all clients, to so many seconds after the event; the reports are there afterwards."""
        outputs = self.sandbox.outputs()
        urls = {True: outputs["service_url"], False: self.plain_url()}
        clients = {
            name: Traffic(urls["gateway" in name], outputs["model"], rate=_RATE, max_tokens=_TOKENS, answer_seconds=_ANSWER_SECONDS, **way)
            for name, way in _CLIENTS.items()
        }
        reports: dict[str, Report] = {}
        for client in clients.values():
            client.start()
        time.sleep(_BEFORE_SECONDS)
        try:
            yield reports
        finally:
            time.sleep(after)
            reports.update({name: client.stop() for name, client in clients.items()})


Event = Callable[[_Service, str], Iterator[Result]]


def _event(happen: Callable[[_Service], str], *, replicas: int = 2, planned: bool = False) -> Event:
    """`happen` returns how the service came through."""

    def event(service: _Service, name: str) -> Iterator[Result]:
        service.settle(replicas)
        # What was removed last is gone from the balancer by then.
        with service.under_load(after=NEG_SECONDS + 2 if planned else 2.0) as reports:
            recovery = happen(service)
        for client, report in reports.items():
            yield _result(f"{name}: {client}", report, recovery, client, planned=planned)

    return event


def _result(event: str, report: Report, recovery: str, client: str, *, planned: bool) -> Result:
    lost = [each for each in report.exchanges if each.result != "answered"]
    streams = sum(each.stream for each in lost)
    # Without retries what comes unannounced may cost whatever it costs, which is what this drill finds out.
    bound = 0 if planned and "gateway" in client else streams if "retries" in client else len(lost)
    told = f"{recovery}; streams among the lost: {streams}" if lost else recovery
    return events.requests_result(event, report, told, bound=bound)


def _update(service: _Service) -> str:
    service.deploy(maxModelLen=4096)
    return "each new pod served before an old one left"


def _drain(service: _Service) -> str:
    node = min(events.serving(service.sandbox))
    events.drain(service.sandbox, node)
    service.sandbox.kubectl("uncordon", node)
    return "its replica finished what was under way"


def _scale(service: _Service) -> str:
    for count in ("3", "1"):
        service.sandbox.command("scale", count)
    return "replicas left after their last answer"


def _preempt(*, notice: float) -> Callable[[_Service], str]:
    def happen(service: _Service) -> str:
        node = next(name for name, pool in events.serving(service.sandbox).items() if pool == "l4-spot")
        service.sandbox.command("preempt", node, "--notice", f"{notice:g}")
        # Afterwards is the health check's work, and other events' where it is Kubernetes's.
        time.sleep(notice + 15)
        return "the health check took it out of the balancer" if notice == 0 else "its pod had 15 s for what was under way"

    return happen


def _fault(command: str, *options: str) -> Callable[[_Service], str]:
    def happen(service: _Service) -> str:
        sandbox, pod = service.sandbox, events.replicas(service.sandbox)[0]["name"]
        wanted = events.restarts(sandbox, pod) + 1
        sandbox.command(command, pod, *options)
        events.wait_until(lambda: events.restarts(sandbox, pod) >= wanted, _RESTART_SECONDS, f"restart {wanted} of {pod}")
        service.wait_for(2)
        return "the liveness probe restarted its container" if command == "hang" else "its container was started again"

    return happen


_PLANNED: Mapping[str, Event] = {
    "rolling update": _event(_update, planned=True),
    "Spot preemption, 30 s of notice": _event(_preempt(notice=30), replicas=3, planned=True),
    "drain of a node": _event(_drain, planned=True),
    "scale-out to 3, then to 1": _event(_scale, planned=True),
}

UNANNOUNCED: Mapping[str, Event] = {
    "a node that vanishes": _event(_preempt(notice=0), replicas=3),
    "a server that is killed": _event(_fault("crash", "--once")),
    "a server that hangs": _event(_fault("hang")),
    "a server whose engine hangs, /health still 200": _event(_fault("hang", "--engine")),
}
