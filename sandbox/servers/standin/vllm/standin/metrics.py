"""`/metrics` with vLLM's names, types, labels and buckets, for the metrics that dashboards and autoscalers use.

Left out: vLLM's metrics of features that the stand-in has not (LoRA, speculative decoding, multi-modal caches, KV
transfer), and those per HTTP route.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

# From the bucket definitions of vLLM 0.31.0.
_LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_FIRST_TOKEN = (*(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1), *(2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560))
_INTER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)

_FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


class Metrics:
    """The metrics of one engine, number 0, which serves one model."""

    def __init__(self, model_name: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._values = (model_name, "0")
        self._running = self._gauge("num_requests_running", "Number of requests in model execution batches.")
        self._waiting = self._gauge("num_requests_waiting", "Number of requests waiting to be processed.")
        self._cache = self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.")
        # Nothing is ever preempted here and no prefix is cached: vLLM shows these at 0 as well.
        self._counter("num_preemptions", "Cumulative number of preemption from the engine.")
        self._counter("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.")
        self._counter("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.")
        self.prompt_tokens = self._counter("prompt_tokens", "Number of prefill tokens processed.")
        self.generation_tokens = self._counter("generation_tokens", "Number of generation tokens processed.")
        success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            ("model_name", "engine", "finished_reason"),
            registry=self._registry,
        )
        self.success = {reason: success.labels(*self._values, reason) for reason in _FINISH_REASONS}
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "Histogram of time to first token in seconds.", _FIRST_TOKEN
        )
        self.inter_token_latency = self._histogram(
            "inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", _INTER_TOKEN
        )
        self.e2e_latency = self._histogram("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _LATENCY)
        self.queue_time = self._histogram("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", _LATENCY)
        self.inference_time = self._histogram(
            "request_inference_time_seconds", "Histogram of time spent in RUNNING phase for request.", _LATENCY
        )
        self.request_prompt_tokens = self._histogram("request_prompt_tokens", "Number of prefill tokens processed.", _TOKENS)
        self.request_generation_tokens = self._histogram("request_generation_tokens", "Number of generation tokens processed.", _TOKENS)

    def watch(self, *, running: Callable[[], int], waiting: Callable[[], int], cache: Callable[[], float]) -> None:
        """Takes the gauges' values from these when they are asked for."""
        self._running.set_function(running)
        self._waiting.set_function(waiting)
        self._cache.set_function(cache)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"vllm:{name}", text, ("model_name", "engine"), registry=self._registry).labels(*self._values)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, ("model_name", "engine"), registry=self._registry).labels(*self._values)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        labels = ("model_name", "engine")
        return Histogram(f"vllm:{name}", text, labels, buckets=buckets, registry=self._registry).labels(*self._values)
