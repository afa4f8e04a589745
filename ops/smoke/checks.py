"""The checks, in order: health, model, completion, stream, latency, rung.

A check whose ground is missing is skipped, and says for which reason; it is never counted as good. Left out: how results are shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ops.smoke.failure import Failure, NotYet
from ops.smoke.rungs import ServingPod, UnknownRung, serving_pods
from ops.smoke.service import Answer, Api, Service
from ops.smoke.target import Target

#: `unknown`: could not be found out, which is no failure.
Status = Literal["ok", "failed", "skipped", "unknown"]

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All in seconds."""

    #: How long the service may take to become healthy; a load balancer takes minutes, as does a server's start.
    healthy: float = 300.0
    #: After that a request is given up.
    request: float = 60.0
    #: Of a stream, once the server has answered something: a first request may compile.
    first_token: float = 5.0
    #: Of a completion of at most 64 tokens.
    total: float = 30.0


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    name: str
    status: Status
    #: What was found, or the cause of a failure.
    detail: str
    #: Of a failure: what a person can do about it.
    fix: str = ""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """`rung` is what is known of who answered: `pool`, its `priority` from 1 (the best), and perhaps `pod` and `node`."""

    target: Target
    checks: tuple[CheckResult, ...]
    rung: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(each.status != "failed" for each in self.checks)

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "stack": self.target.stack or None,
            "service_url": self.target.service_url,
            "model": self.target.model,
            "ok": self.ok,
            "rung": self.rung or None,
            "checks": [asdict(each) for each in self.checks],
        }


def run(
    target: Target,
    *,
    limits: Limits | None = None,
    key: str = "",
    api: Api = "chat",
    kubeconfig: str | None = None,
    ask_cluster: bool = True,
    expected_pool: str | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Report:
    """Every check of a service; `report` hears what is being done.

    `key`: the server's API key. `kubeconfig`: a file, None for kubectl's own choice; not read unless `ask_cluster`.
    `expected_pool`: the only pool that may answer.
    """
    smoke = _Run(target, limits or Limits(), Service(target.service_url, seconds=(limits or Limits()).request, key=key, api=api))
    report(f"waiting until {target.service_url} is healthy")
    if smoke.health() and smoke.model():
        report(f"asking {target.model}")
        smoke.completion()
        smoke.stream()
    smoke.skip_the_rest()
    smoke.rung(kubeconfig, ask_cluster=ask_cluster, expected=expected_pool)
    return Report(target=target, checks=tuple(smoke.results), rung=smoke.found_rung)


class _Run:
    def __init__(self, target: Target, limits: Limits, service: Service) -> None:
        self.results: list[CheckResult] = []
        self.found_rung: dict[str, Any] = {}
        self._target = target
        self._limits = limits
        self._service = service
        self._place: dict[str, str] = {}

    def health(self) -> bool:
        """Waits while waiting may help."""
        started = time.monotonic()
        while True:
            try:
                self._service.health()
            except Failure as failure:
                waited = time.monotonic() - started
                if isinstance(failure, NotYet) and waited + _LOOK_SECONDS < self._limits.healthy:
                    time.sleep(_LOOK_SECONDS)
                    continue
                cause = str(failure)
                if isinstance(failure, NotYet):
                    cause = f"not healthy after {waited:.0f} s (--timeout): {cause}"
                return self._failed("health", cause, failure.fix, started)
            return self._good("health", "answers", time.monotonic() - started)

    def model(self) -> bool:
        started = time.monotonic()
        try:
            names = self._service.models()
        except Failure as failure:
            return self._failed("model", str(failure), failure.fix, started)
        if self._target.model not in names:
            served = ", ".join(names) or "none"
            return self._failed(
                "model",
                f"the server serves {served}, not {self._target.model}",
                "`pulumi up` rolls the model of the settings out; `kubectl rollout status` shows whether it is done",
                started,
            )
        return self._good("model", self._target.model, time.monotonic() - started)

    def completion(self) -> None:
        if (answer := self._ask("completion", self._service.complete)) is None:
            return
        self._good("completion", _excerpt(answer.text), answer.seconds)
        self._within("total", answer.seconds, self._limits.total, "--max-total")

    def stream(self) -> None:
        if (answer := self._ask("stream", self._service.stream)) is None:
            return
        self._good("stream", f"{len(answer.text)} characters, ended in order", answer.seconds)
        assert answer.first_token_seconds is not None, "an answer with text has a first token"
        self._within("first token", answer.first_token_seconds, self._limits.first_token, "--max-first-token")

    def skip_the_rest(self) -> None:
        """Checks that could not be made, for the first failure's reason."""
        known = {each.name for each in self.results}
        failed = next((each.name for each in self.results if each.status == "failed"), "")
        for name in ("health", "model", "completion", "total", "stream", "first token"):
            if name not in known:
                because = {"total": "completion", "first token": "stream"}.get(name, failed)
                reason = because if because in known else failed
                self.results.append(CheckResult(name=name, status="skipped", detail=f"not asked, since {reason} failed"))

    def rung(self, kubeconfig: str | None, *, ask_cluster: bool, expected: str | None) -> None:
        """Which rung answered, by the stand-in's own word or by the pods that are ready."""
        why = "not asked (--no-cluster)"
        if self._place.get("pool"):
            self.found_rung = self._rung_of(self._place["pool"]) | self._place
            detail = f"{self._named(self._place['pool'])}, pod {self._place.get('pod')}, node {self._place.get('node')}"
            self._judge_rung([self._place["pool"]], detail, expected)
            return
        if ask_cluster:
            try:
                pods = serving_pods(self._target, kubeconfig)
            except UnknownRung as reason:
                why = str(reason)
            else:
                self._judge_pods(pods, expected)
                return
        if expected is None:
            self.results.append(CheckResult(name="rung", status="unknown", detail=why))
        else:
            self._failed(
                "rung",
                f"cannot be found out: {why}",
                f"give access to the cluster, or leave --expect-pool {expected} out",
            )

    # --- small parts

    def _ask(self, name: str, ask: Callable[[str], Answer]) -> Answer | None:
        """An answer that is one, None after a failure of check `name`."""
        started = time.monotonic()
        try:
            answer = ask(self._target.model)
        except Failure as failure:
            self._failed(name, str(failure), failure.fix, started)
            return None
        self._place = {**self._place, **answer.place}
        if answer.model != self._target.model:
            self._failed(
                name,
                f"it is answered by model {answer.model}, not {self._target.model}",
                "pods of an older update may still serve (`kubectl rollout status deployment/vllm`)",
                started,
            )
            return None
        if not answer.text.strip():
            self._failed(
                name,
                "the answer is empty",
                "the model may want another form of prompt (`--api completions`), or its weights are broken: see the pods' logs",
                started,
            )
            return None
        return answer

    def _judge_pods(self, pods: list[ServingPod], expected: str | None) -> None:
        if not pods:
            self._failed(
                "rung",
                "no pod is ready behind the service",
                "`kubectl describe pods` says what they wait for; the runbook has the stock-out",
            )
            return
        pools = [pod.pool or "no pool" for pod in pods]
        counts = {pool: pools.count(pool) for pool in sorted(set(pools), key=self._rank)}
        if len(counts) == 1:
            self.found_rung = self._rung_of(pods[0].pool) | {"ready": len(pods)}
        else:
            self.found_rung = {"ready": counts}
        listing = ", ".join(f"{self._named(pool)}: {count} ready" for pool, count in counts.items())
        one_of = "" if len(counts) == 1 else "one of "
        self._judge_rung(list(counts), one_of + listing, expected)

    def _judge_rung(self, pools: list[str], detail: str, expected: str | None) -> None:
        if expected is not None and pools != [expected]:
            self._failed(
                "rung",
                f"{detail}; expected {expected}",
                "the pools before it may be out of stock, or active migration is not done yet: `kubectl get pods -o wide`",
            )
        else:
            self._good("rung", detail)

    def _rank(self, pool: str) -> int:
        pools = self._target.pools
        return pools.index(pool) if pool in pools else len(pools)

    def _rung_of(self, pool: str) -> dict[str, Any]:
        known = pool in self._target.pools
        return {"pool": pool, "priority": self._rank(pool) + 1 if known else None}

    def _named(self, pool: str) -> str:
        """`l4-spot (2 of 3)`."""
        pools = self._target.pools
        return f"{pool} ({self._rank(pool) + 1} of {len(pools)})" if pool in pools else pool

    def _within(self, name: str, seconds: float, limit: float, option: str) -> None:
        if seconds > limit:
            self.results.append(
                CheckResult(
                    name=name,
                    status="failed",
                    detail=f"{seconds:.2f} s, and {limit:g} s is the limit",
                    fix=f"see waiting requests and the rung that answers; a start may still be compiling. {option} sets the limit",
                    seconds=seconds,
                )
            )
        else:
            self._good(name, f"within {limit:g} s", seconds)

    def _good(self, name: str, detail: str, seconds: float | None = None) -> bool:
        self.results.append(CheckResult(name=name, status="ok", detail=detail, seconds=seconds))
        return True

    def _failed(self, name: str, cause: str, fix: str, started: float | None = None) -> bool:
        seconds = None if started is None else time.monotonic() - started
        self.results.append(CheckResult(name=name, status="failed", detail=cause, fix=fix, seconds=seconds))
        return False


def _excerpt(text: str) -> str:
    line = "".join(each if each.isprintable() else " " for each in " ".join(text.split()))
    return f'"{line}"' if len(line) <= 60 else f'"{line[:57]}..."'
