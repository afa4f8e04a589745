"""Requests a second, waiting and time to the first token, from what vLLM's servers publish at /metrics.

Left out: where the texts come from (`ops.live.cluster`), and any history longer than a few seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

#: Rates and means are taken over so many seconds.
_WINDOW = 20.0

#: A server that was last heard so many seconds ago counts for nothing.
_STALE = 10.0

_RUNNING, _WAITING, _DONE = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:request_success_total"
_FIRST_SUM, _FIRST_COUNT = "vllm:time_to_first_token_seconds_sum", "vllm:time_to_first_token_seconds_count"
_NAMES = {_RUNNING, _WAITING, _DONE, _FIRST_SUM, _FIRST_COUNT}


@dataclass(frozen=True, kw_only=True)
class Load:
    """Of some servers together; `first_token` is a mean in seconds, None if no answer began within the window."""

    requests_a_second: float
    running: int
    waiting: int
    first_token: float | None


class Meter:
    """Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, Counter[str]]]] = {}

    def add(self, pod: str, text: str, now: float) -> None:
        """Raises `ValueError` for a text that is not in Prometheus's format."""
        values: Counter[str] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in _NAMES:
                    # Over all models, engines and reasons of finishing.
                    values[sample.name] += sample.value  # type: ignore[assignment]
        samples = self._samples.setdefault(pod, deque())
        if samples and samples[-1][1][_DONE] > values[_DONE]:
            # The server was started again, and counts from zero.
            samples.clear()
        samples.append((now, values))
        # One sample from before the window stays, since the window begins at it.
        while len(samples) > 2 and samples[1][0] <= now - _WINDOW:
            samples.popleft()

    def load(self, pods: Iterable[str], now: float) -> Load | None:
        """None if none of these pods was heard lately."""
        heard = [samples for pod in pods if (samples := self._samples.get(pod)) and samples[-1][0] > now - _STALE]
        if not heard:
            return None
        latest: Counter[str] = Counter()
        change: Counter[str] = Counter()
        rate = 0.0
        for samples in heard:
            (begin, first), (end, last) = samples[0], samples[-1]
            latest.update(last)
            for name in (_FIRST_SUM, _FIRST_COUNT):
                change[name] += last[name] - first[name]
            rate += (last[_DONE] - first[_DONE]) / (end - begin) if end > begin else 0.0
        begun = change[_FIRST_COUNT]
        return Load(
            requests_a_second=rate,
            running=int(latest[_RUNNING]),
            waiting=int(latest[_WAITING]),
            first_token=change[_FIRST_SUM] / begun if begun else None,
        )

    def forget(self, kept: Iterable[str]) -> None:
        """Drops all pods but these."""
        names = set(kept)
        self._samples = {pod: samples for pod, samples in self._samples.items() if pod in names}
