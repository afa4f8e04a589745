"""The checks, in order: health, model, completion, stream, latency, pool, rungs, and what only hardware shows.

A check that cannot be made is skipped, and says why; it is never counted as good. Left out: how results are shown (`ops.findings`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ops.findings import Finding, failed, lines, ok, skipped
from ops.smoke import hardware
from ops.smoke.rungs import compared
from ops.smoke.service import Answer, Api, Failure, NotYet, Service
from ops.smoke.serving_pools import ServingPod, UnknownPool, serving_pods
from ops.smoke.target import Target

PROMPT = "Why is the sky blue?"
MAX_TOKENS = 64

#: In the order of the report; each needs all before it but for the times.
_NAMES = ("health", "model", "completion", "total", "stream", "first token")

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All in seconds."""

    #: How long the service may take to become healthy; a load balancer takes minutes, as does a server's start.
    healthy: float = 300.0
    #: After that a request is given up.
    request: float = 60.0
    #: Until a stream's first token, once the server has answered something: a first request may compile.
    first_token: float = 5.0
    #: For a completion of at most 64 tokens.
    total: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """The checks, and what is known of the pod that answered: its `pool`, the pool's `priority` from 1, perhaps `pod` and `node`."""

    target: Target
    checks: tuple[Finding, ...]
    served_by: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        return [each.field for each in self.checks if each.status == "failed"]

    @property
    def ok(self) -> bool:
        return not self.failed

    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "stack": self.target.stack or None,
            "service_url": self.target.service_url,
            "model": self.target.model,
            "ok": self.ok,
            "served_by": self.served_by or None,
            "checks": [asdict(each) for each in self.checks],
        }

    def text(self, *, width: int = 120) -> str:
        """For a person: a line a check, and the verdict."""
        of_stack = f"stack {self.target.stack}, " if self.target.stack else ""
        head = f"Smoke test of {of_stack}{self.target.service_url}, model {self.target.model}"
        rows = lines((("smoke", each) for each in self.checks), width=width)
        return "\n".join([head, *rows, f"failed: {', '.join(self.failed)}" if self.failed else "good"])


def run(
    target: Target,
    *,
    limits: Limits | None = None,
    key: str = "",
    api: Api = "chat",
    kubeconfig: str | None = None,
    ask_cluster: bool = True,
    expected_pool: str | None = None,
    on_hardware: bool = False,
    report: Callable[[str], None] = lambda text: None,
) -> Report:
    """Every check of a service; `report` hears what is being done.

    `key`: the server's API key. `kubeconfig`: a file, None for kubectl's own choice; not read unless `ask_cluster`.
    `expected_pool`: the only pool that may answer. `on_hardware`: also what `ops.smoke.hardware` checks, which deletes a pod.
    """
    limits = limits or Limits()
    smoke = _Run(target, limits, Service(target.service_url, seconds=limits.request, key=key, api=api))
    report(f"waiting until {target.service_url} is healthy")
    if smoke.health() and smoke.model():
        report(f"asking {target.model}")
        smoke.completion()
        smoke.stream()
    smoke.skip_the_rest()
    pods: list[ServingPod] | UnknownPool
    try:
        if not ask_cluster:
            raise UnknownPool("not asked (--no-cluster)")
        pods = serving_pods(target, kubeconfig)
    except UnknownPool as reason:
        pods = reason
    smoke.serving_pool(pods, expected=expected_pool)
    report("comparing the pools")
    smoke.results.append(compared(target, pods, seconds=limits.request, key=key, api=api))
    if on_hardware:
        report("looking into the pods, and deleting one of them")
        smoke.results += hardware.rows(target, pods, seconds=limits.request, first_token=limits.first_token, key=key, api=api)
    return Report(target=target, checks=tuple(smoke.results), served_by=smoke.served_by)


class _Run:
    def __init__(self, target: Target, limits: Limits, service: Service) -> None:
        self.results: list[Finding] = []
        self.served_by: dict[str, Any] = {}
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
                if not isinstance(failure, NotYet):
                    return self._failed("health", str(failure), failure.fix, started)
                if waited + _LOOK_SECONDS >= self._limits.healthy:
                    return self._failed("health", f"not healthy after {waited:.0f} s (--timeout): {failure}", failure.fix, started)
                time.sleep(_LOOK_SECONDS)
            else:
                return self._good("health", "answers", time.monotonic() - started)

    def model(self) -> bool:
        started = time.monotonic()
        try:
            names = self._service.models()
        except Failure as failure:
            return self._failed("model", str(failure), failure.fix, started)
        if self._target.model not in names:
            reason = f"the server serves {', '.join(names) or 'none'}, not {self._target.model}"
            fix = "`pulumi up` rolls the model of the settings out; `kubectl rollout status` shows whether it is done"
            return self._failed("model", reason, fix, started)
        return self._good("model", self._target.model, time.monotonic() - started)

    def completion(self) -> None:
        if answer := self._ask("completion", stream=False):
            self._good("completion", _excerpt(answer.text), answer.seconds)
            self._within("total", answer.seconds, self._limits.total, "--max-total")

    def stream(self) -> None:
        if answer := self._ask("stream", stream=True):
            self._good("stream", f"{len(answer.text)} characters, ended in order", answer.seconds)
            assert answer.first_token_seconds is not None, "an answer with text has a first token"
            self._within("first token", answer.first_token_seconds, self._limits.first_token, "--max-first-token")

    def skip_the_rest(self) -> None:
        """Checks that could not be made, for the first failure's reason."""
        known = {each.field for each in self.results}
        first = next((each.field for each in self.results if each.status == "failed"), "")
        for name in _NAMES:
            if name not in known:
                because = {"total": "completion", "first token": "stream"}.get(name, first)
                self.results.append(skipped(name, reason=f"{because if because in known else first} failed"))

    def serving_pool(self, pods: list[ServingPod] | UnknownPool, *, expected: str | None) -> None:
        """Which node pool answered, by the stand-in's own headers or by the pods that are ready."""
        if pool := self._place.get("pool"):
            self.served_by = self._priority_of(pool) | self._place
            self._judge_pool([pool], f"{self._named(pool)}, pod {self._place.get('pod')}, node {self._place.get('node')}", expected)
            return
        if isinstance(pods, UnknownPool):
            if expected is None:
                self.results.append(skipped("pool", reason=str(pods)))
            else:
                fix = f"give access to the cluster, or leave --expect-pool {expected} out"
                self._failed("pool", f"cannot be found out: {pods}", fix)
            return
        counts = Counter(pod.pool for pod in pods)
        if not counts:
            fix = "`kubectl describe pods` says what they wait for; the runbook has the stock-out"
            self._failed("pool", "no pod is ready behind the service", fix)
            return
        pools = sorted(counts, key=self._rank)
        self.served_by = self._priority_of(pools[0]) | {"ready": counts[pools[0]]} if len(pools) == 1 else {"ready": dict(counts)}
        listing = ", ".join(f"{self._named(pool)}: {counts[pool]} ready" for pool in pools)
        self._judge_pool(pools, listing if len(pools) == 1 else f"one of {listing}", expected)

    # --- small parts

    def _ask(self, name: str, *, stream: bool) -> Answer | None:
        """An answer that is one, None after a failure of check `name`."""
        started, model = time.monotonic(), self._target.model
        try:
            # `min_tokens` is vLLM's: a model that ends at once would pass for one that says nothing.
            answer = self._service.ask(model, PROMPT, stream=stream, max_tokens=MAX_TOKENS, min_tokens=1, temperature=0)
        except Failure as failure:
            self._failed(name, str(failure), failure.fix, started)
            return None
        self._place |= {key: value for key in ("pool", "pod", "node") if (value := getattr(answer, key))}
        if answer.model != model:
            fix = "pods of an older update may still serve (`kubectl rollout status deployment/vllm`)"
            self._failed(name, f"it is answered by model {answer.model}, not {model}", fix, started)
            return None
        if not answer.text.strip():
            fix = "the model may want another form of prompt (`--api completions`), or its weights are broken: see the pods' logs"
            self._failed(name, "the answer is empty", fix, started)
            return None
        return answer

    def _judge_pool(self, pools: list[str], found: str, expected: str | None) -> None:
        if expected is not None and pools != [expected]:
            fix = "the pools before it may be out of stock, or active migration is not done yet: `kubectl get pods -o wide`"
            self._failed("pool", f"{found}; expected {expected}", fix)
        else:
            self._good("pool", found)

    def _rank(self, pool: str) -> int:
        pools = self._target.pools
        return pools.index(pool) if pool in pools else len(pools)

    def _priority_of(self, pool: str) -> dict[str, Any]:
        return {"pool": pool, "priority": self._rank(pool) + 1 if pool in self._target.pools else None}

    def _named(self, pool: str) -> str:
        """`l4-spot (2 of 3)`."""
        pools = self._target.pools
        return f"{pool} ({self._rank(pool) + 1} of {len(pools)})" if pool in pools else pool

    def _within(self, name: str, seconds: float, limit: float, option: str) -> None:
        if seconds > limit:
            fix = "see waiting requests and the pool that answers; a start may still be compiling"
            self.results.append(failed(name, "too slow", reason=f"{option} is {limit:g} s", fix=fix, seconds=seconds))
        else:
            self._good(name, f"within {limit:g} s", seconds)

    def _good(self, name: str, found: str, seconds: float | None = None) -> bool:
        self.results.append(ok(name, found, seconds=seconds))
        return True

    def _failed(self, name: str, found: str, fix: str, started: float | None = None) -> bool:
        seconds = None if started is None else time.monotonic() - started
        self.results.append(failed(name, found, reason="", fix=fix, seconds=seconds))
        return False


def _excerpt(text: str) -> str:
    line = "".join(each if each.isprintable() else " " for each in " ".join(text.split()))
    return f'"{line}"' if len(line) <= 60 else f'"{line[:57]}..."'
