"""Runs inference-perf against one server, and reads what it measured. Left out: which server (`__main__`), what it means (`report`)."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.settings.stack_files import PROJECT_DIR

#: Has an environment of its own, since it pins other versions than ours (requirements-benchmark.txt; `make benchmark` installs it).
PROGRAM = PROJECT_DIR / ".venv-benchmark" / "bin" / "inference-perf"


class GeneratorError(Exception):
    """inference-perf is not there, or failed; the message has its last lines and what would help."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked for: answers of equal length, by so many clients at a time."""

    concurrencies: Sequence[int] = (1, 8, 32)
    #: Requests of each client.
    rounds: int = 8
    input_tokens: int = 512
    output_tokens: int = 128
    #: The latency goal, in seconds: until the first token, and for each one after it.
    first_token: float = 1.0
    token: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What was measured with so many clients at a time. Times are in seconds, rates in one second."""

    concurrency: int
    requests: int
    failed: int
    input_tokens: float
    output_tokens: float
    requests_per_second: float
    #: Of requests within the latency goal.
    good_requests: float
    first_token_median: float
    first_token_p95: float
    token_median: float


def run(url: str, model: str, load: Load, *, key: str = "", program: Path = PROGRAM, seconds: float = 3600.0) -> list[Stage]:
    """`url`: the base URL of an OpenAI client, ending in /v1. `seconds` is the limit for all of it. Raises `GeneratorError`."""
    with tempfile.TemporaryDirectory() as folder:
        # In a file of its owner's, since a command line is seen by everyone.
        configuration = Path(folder) / "configuration.yaml"
        configuration.touch(mode=0o600)
        configuration.write_text(yaml.safe_dump(_configuration(url, model, load, key, folder)))
        try:
            done = subprocess.run(
                [program, "--config_file", configuration],
                cwd=folder,
                env=os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"},
                check=False,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=seconds,
            )
        except OSError as error:
            raise GeneratorError(f"{program} cannot be run ({error.strerror}): `make benchmark` installs it") from error
        except subprocess.TimeoutExpired as error:
            raise GeneratorError(f"inference-perf has not ended after {seconds:g} s: ask for less (--rounds, --concurrency)") from error
        found = [_read(Path(folder) / f"stage_{number}_lifecycle_metrics.json") for number in range(len(load.concurrencies))]
        if done.returncode != 0 or not all(found):
            said = done.stdout.replace(key, "[key]") if key else done.stdout
            raise GeneratorError(f"inference-perf ended with {done.returncode}: {' '.join(said.split())[-600:]}")
        return [_stage(concurrency, each) for concurrency, each in zip(load.concurrencies, found, strict=True)]


def _configuration(url: str, model: str, load: Load, key: str, folder: str) -> dict[str, Any]:
    def fixed(tokens: int) -> dict[str, Any]:
        return {"type": "fixed", "min": tokens, "max": tokens, "mean": tokens, "std_dev": 0}

    return {
        "api": {"type": "completion", "streaming": True},
        "data": {"type": "random", "input_distribution": fixed(load.input_tokens), "output_distribution": fixed(load.output_tokens)},
        "load": {
            "type": "concurrent",
            "stages": [{"concurrency_level": each, "num_requests": each * load.rounds} for each in load.concurrencies],
            "num_workers": 1,
            "worker_max_concurrency": max(load.concurrencies),
        },
        "server": {
            "type": "vllm",
            "model_name": model,
            "base_url": url.removesuffix("/v1"),
            "ignore_eos": True,
            **({"api_key": key} if key else {}),
        },
        "tokenizer": {"pretrained_model_name_or_path": model},
        "report": {
            "request_lifecycle": {"percentiles": [50, 95], "use_server_output_tokens": True},
            "goodput": {"constraints": {"ttft": load.first_token, "tpot": load.token}},
        },
        "storage": {"local_storage": {"path": folder}},
    }


def _read(file: Path) -> Any:
    return json.loads(file.read_text()) if file.exists() else None


def _stage(concurrency: int, found: Any) -> Stage:
    """Nothing of it is there if every request failed."""
    good = found["successes"]
    latency, throughput = good.get("latency") or {}, good.get("throughput") or {}

    def of(name: str, key: str) -> float:
        return float((latency.get(name) or {}).get(key) or 0.0)

    return Stage(
        concurrency=concurrency,
        requests=good["count"] + found["failures"]["count"],
        failed=found["failures"]["count"],
        input_tokens=float(throughput.get("input_tokens_per_sec") or 0),
        output_tokens=float(throughput.get("output_tokens_per_sec") or 0),
        requests_per_second=float(throughput.get("requests_per_sec") or 0),
        good_requests=float((good.get("goodput_metrics") or {}).get("request_goodput") or 0),
        first_token_median=of("time_to_first_token", "median"),
        first_token_p95=of("time_to_first_token", "p95"),
        token_median=of("time_per_output_token", "median"),
    )
