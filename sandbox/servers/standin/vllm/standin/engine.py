"""The scheduler of a model server, without the model: a batch of sequences that each get one token a step.

What is like vLLM's: continuous batching, at most `max_num_seqs` sequences at once and the rest waiting in order of
arrival, tokens that come out one by one. Left out: prefill time that grows with the prompt, a step that gets slower with
a fuller batch, preemption.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

from .metrics import Metrics

#: What the whole KV cache holds; vLLM's depends on the device and the model, this is about an L4's with a model of 1.5 B.
_KV_CACHE_TOKENS = 400_000


class Generation:
    """One sequence: the tokens that it will produce are known from the start."""

    def __init__(self, prompt_tokens: int, tokens: Sequence[str], finish_reason: str) -> None:
        self.prompt_tokens = prompt_tokens
        self.finish_reason = finish_reason
        self.produced = 0
        self.finished = False
        self._tokens = tokens
        self._news = asyncio.Event()
        self._taken = 0
        self.arrived = time.monotonic()
        self.started = 0.0
        self.last_token = 0.0

    @property
    def complete(self) -> bool:
        return self.produced >= len(self._tokens)

    @property
    def text(self) -> str:
        """What there is so far."""
        return "".join(self._tokens[: self.produced])

    def tell(self) -> None:
        """Wakes the requests that wait for tokens."""
        self._news.set()

    async def wait(self) -> None:
        """Until the last token."""
        async for _ in self.pieces():
            pass

    async def pieces(self) -> AsyncIterator[str]:
        """The text as it comes; ends with the last token."""
        while True:
            if self._taken < self.produced:
                piece = "".join(self._tokens[self._taken : self.produced])
                self._taken = self.produced
                yield piece
            elif self.finished:
                return
            else:
                self._news.clear()
                await self._news.wait()


class Engine:
    """Runs generations; everything on one event loop."""

    def __init__(self, *, max_num_seqs: int, token_seconds: float, metrics: Metrics) -> None:
        self._max_num_seqs = max_num_seqs
        self._token_seconds = token_seconds
        self._metrics = metrics
        self._running: list[Generation] = []
        self._waiting: deque[Generation] = deque()
        self._work = asyncio.Event()
        #: Whether it takes no more requests.
        self.ending = False
        #: What it last said of itself, once it hangs: requests that run and wait, and the cache's use.
        self._last_words: tuple[int, int, float] | None = None
        metrics.watch(running=lambda: self._state[0], waiting=lambda: self._state[1], cache=lambda: self._state[2])

    @property
    def unfinished(self) -> int:
        """Sequences that run or wait."""
        return len(self._running) + len(self._waiting)

    def hang(self) -> None:
        """From now on no step is done and nothing is said, as when vLLM's engine process hangs; the server knows nothing of it."""
        self._last_words = self._state

    def submit(self, generation: Generation) -> None:
        self._waiting.append(generation)
        self._admit()
        self._work.set()

    def abort(self, generation: Generation) -> None:
        """Ends a generation early; of no effect on a finished one."""
        if generation.finished:
            return
        generation.finish_reason = "abort"
        if generation in self._waiting:
            self._waiting.remove(generation)
        else:
            self._running.remove(generation)
        self._finish(generation)
        self._admit()

    async def end(self, timeout: float) -> None:
        """Takes no more requests, and after so many seconds cuts off what is still under way."""
        self.ending = True
        deadline = time.monotonic() + timeout
        while self.unfinished and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for generation in [*self._waiting, *self._running]:
            self.abort(generation)

    async def run(self) -> None:
        """Steps until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not self._running:
                self._work.clear()
                await self._work.wait()
                due = loop.time()
            # Steps keep their rhythm, unless this process cannot keep up.
            due = max(due + self._token_seconds, loop.time())
            await asyncio.sleep(due - loop.time())
            if self._last_words is not None:
                return
            self._step()

    def _step(self) -> None:
        now = time.monotonic()
        for generation in self._running:
            if generation.produced == 0:
                self._metrics.time_to_first_token.observe(now - generation.arrived)
                self._metrics.prompt_tokens.inc(generation.prompt_tokens)
            else:
                self._metrics.inter_token_latency.observe(now - generation.last_token)
            generation.last_token = now
            generation.produced += 1
            generation.tell()
        self._metrics.generation_tokens.inc(len(self._running))
        complete = [generation for generation in self._running if generation.complete]
        for generation in complete:
            self._running.remove(generation)
            self._finish(generation)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_num_seqs:
            generation = self._waiting.popleft()
            generation.started = time.monotonic()
            self._running.append(generation)

    def _finish(self, generation: Generation) -> None:
        now = time.monotonic()
        generation.finished = True
        generation.tell()
        started = generation.started or now
        self._metrics.success[generation.finish_reason].inc()
        self._metrics.e2e_latency.observe(now - generation.arrived)
        self._metrics.queue_time.observe(started - generation.arrived)
        self._metrics.inference_time.observe(now - started)
        self._metrics.request_prompt_tokens.observe(generation.prompt_tokens)
        self._metrics.request_generation_tokens.observe(generation.produced)

    @property
    def _state(self) -> tuple[int, int, float]:
        return self._last_words or (len(self._running), len(self._waiting), self._cache_usage)

    @property
    def _cache_usage(self) -> float:
        held = sum(generation.prompt_tokens + generation.produced for generation in self._running)
        return min(1.0, held / _KV_CACHE_TOKENS)
