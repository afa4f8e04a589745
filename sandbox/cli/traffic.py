"""Requests at a steady rate while something happens to the service, each counted as answered, failed or cut.

The rate does not depend on the answers (an open loop), so a service that hangs gets no fewer requests. Every other chat completion
is streamed, and its length is drawn from a few; each has a connection of its own, or uses connections that are kept open, which a
network load balancer cannot move, or one HTTP/2 connection. Failed requests are counted, and repeated only by a client that is told to,
as OpenAI's does by `max_retries`. Left out: measuring throughput, for which vLLM has its own
benchmark.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import requests

from ops.smoke.service import Failure, Service
from sandbox.cli.http2 import Http2Adapter

#: Between two tries, doubled each time and less up to a quarter: openai/openai-python, src/openai/_base_client.py.
_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.5, 8.0

Result = Literal["answered", "failed", "cut"]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request; its times are seconds of the monotonic clock."""

    sent: float
    ended: float
    result: Result
    #: What went wrong; empty if it was answered.
    problem: str
    pod: str
    #: The requested length of the answer, in tokens.
    tokens: int = 0
    stream: bool = False

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of all requests."""

    exchanges: tuple[Exchange, ...]

    @property
    def problems(self) -> Counter[str]:
        """What went wrong, and how often."""
        return Counter(each.problem for each in self.exchanges if each.problem)

    def only(self, wanted: Callable[[Exchange], bool]) -> Report:
        """The same for some of the requests."""
        return Report(exchanges=tuple(filter(wanted, self.exchanges)))

    def count(self, result: Result) -> int:
        return sum(each.result == result for each in self.exchanges)

    @property
    def longest_gap(self) -> float:
        """The longest time without an answer, in seconds."""
        times = sorted(each.ended for each in self.exchanges if each.result == "answered")
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=float("inf"))

    @property
    def pods(self) -> Counter[str]:
        """Answers by pod."""
        return Counter(each.pod for each in self.exchanges if each.result == "answered")

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the answers arrived."""
        times = sorted(each.seconds for each in self.exchanges if each.result == "answered")
        return times[min(len(times) - 1, int(share * len(times)))] if times else float("inf")

    def as_document(self) -> dict[str, Any]:
        return {
            "sent": len(self.exchanges),
            "answered": self.count("answered"),
            "failed": self.count("failed"),
            "cut": self.count("cut"),
            "longest_gap_seconds": round(self.longest_gap, 2),
            "seconds_p50": round(self.quantile(0.5), 2),
            "seconds_p99": round(self.quantile(0.99), 2),
            "problems": dict(sorted(self.problems.items())),
            "pods": dict(sorted(self.pods.items())),
        }


class Traffic:
    """`start` begins; `stop` sends no more, waits for the answers under way, and reports."""

    def __init__(
        self,
        service_url: str,
        model: str,
        *,
        rate: float,
        max_tokens: Sequence[int] = (16, 64),
        keep_alive: bool = False,
        http2: bool = False,
        retries: int = 0,
        api_key: str = "",
        answer_seconds: float = 60.0,
    ) -> None:
        """`http2`: all requests on one connection, to a certificate that REQUESTS_CA_BUNDLE trusts; `retries`: of one without an answer."""
        self._url = service_url
        self._model = model
        self._interval = 1 / rate
        self._lengths = itertools.cycle(max_tokens)
        self._keep_alive = keep_alive
        self._retries = retries
        self._http2 = Http2Adapter(os.environ["REQUESTS_CA_BUNDLE"]) if http2 else None
        self._api_key = api_key
        self._answer_seconds = answer_seconds
        self._sessions = threading.local()
        self._exchanges: list[Exchange] = []
        self._ending = threading.Event()
        # As many threads as requests can be under way at once: one without an answer keeps its thread until its timeout.
        self._pool = ThreadPoolExecutor(max_workers=min(256, int(rate * answer_seconds) + 8))
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Report:
        self._ending.set()
        self._thread.join()
        self._pool.shutdown(wait=True)
        return Report(exchanges=tuple(sorted(self._exchanges, key=lambda each: each.sent)))

    def _run(self) -> None:
        due = time.monotonic()
        for number in itertools.count():
            self._pool.submit(self._send, next(self._lengths), stream=number % 2 == 1)
            due += self._interval
            if self._ending.wait(max(0.0, due - time.monotonic())):
                return

    def _send(self, tokens: int, *, stream: bool) -> None:
        sent = time.monotonic()
        for tries in range(self._retries + 1):
            if tries:
                time.sleep(min(_FIRST_RETRY_SECONDS * 2 ** (tries - 1), _LAST_RETRY_SECONDS) * (1 - 0.25 * random.random()))
            result, problem, pod = self._exchange(tokens, stream=stream)
            # A stream that has begun is in its caller's hands, and is not repeated.
            if result == "answered" or (stream and result == "cut"):
                break
        ended = time.monotonic()
        self._exchanges.append(Exchange(sent=sent, ended=ended, result=result, problem=problem, pod=pod, tokens=tokens, stream=stream))

    def _exchange(self, tokens: int, *, stream: bool) -> tuple[Result, str, str]:
        service = Service(self._url, seconds=self._answer_seconds, key=self._api_key, session=self._session())
        try:
            # Otherwise the stand-in would stop at the end of its sentence.
            options = {"max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True}
            answer = service.ask(self._model, "Count until you are told to stop.", stream=stream, **options)
        except Failure as failure:
            return ("cut" if failure.begun else "failed"), failure.kind, ""
        if answer.finish_reason not in ("stop", "length"):
            return "cut", f"finish_reason {answer.finish_reason}", answer.pod
        return "answered", "", answer.pod

    def _session(self) -> requests.Session | None:
        if not self._keep_alive and self._http2 is None:
            return None
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
            if self._http2 is not None:
                self._sessions.session.mount("https://", self._http2)
        session = self._sessions.session
        assert isinstance(session, requests.Session)
        return session
