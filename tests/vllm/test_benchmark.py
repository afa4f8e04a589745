"""The benchmark and the smoke test's comparison by rung, on sandboxes whose pods run the stand-in and real vLLM: the real load generator,
the real kubectl, two pools.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.benchmark.generator import PROGRAM
from sandbox.cli.client import fresh_sandbox, run_command
from sandbox.host.paths import Paths
from sandbox.servers.model_server import NAMES, ModelServer, model_cache

_LOAD = "--concurrency 1,4 --rounds 2 --input-tokens 32 --output-tokens 16 --first-token 60 --token 60"


@pytest.mark.parametrize("server", NAMES)
def test_each_rung_of_a_stack_is_compared_and_measured(vllm: ModelServer, server: str, tmp_path: Path) -> None:
    if not PROGRAM.exists():
        pytest.skip("inference-perf is not installed: `make test-vllm` installs it")
    with fresh_sandbox("benchmark") as sandbox:
        sandbox.command("up", "--server", server)
        sandbox.command("scale", "2", "--timeout", "1200")
        # The tokenizer is the tiny model's, without the network.
        environment = sandbox.shell_environment() | {"HF_HUB_CACHE": str(model_cache(Paths.from_environment())), "HF_HUB_OFFLINE": "1"}
        smoke = run_command(
            [".venv/bin/python", "-m", "ops", "smoke", "--stack", "sandbox", "--json"], environment, check=False, timeout=300
        )
        command = [".venv/bin/python", "-m", "ops", "benchmark", "--stack", "sandbox", "--json", "--svg", str(tmp_path / "rungs.svg")]
        found = json.loads(run_command([*command, *_LOAD.split()], environment, check=True, timeout=1200).stdout)
    (compared,) = [each for each in json.loads(smoke.stdout)["checks"] if each["field"] == "rungs"]
    assert compared["status"] == "ok", compared
    print(json.dumps(found))
    measured = {rung["pool"]: rung for rung in found["rungs"] if rung["stages"]}
    assert len(measured) == 2
    for rung in measured.values():
        assert rung["usd_per_million_tokens"] > 0
        for stage in rung["stages"]:
            assert (stage["failed"], stage["requests"]) == (0, 2 * stage["concurrency"])
            assert stage["output_tokens"] == pytest.approx(16 * stage["requests_per_second"], rel=0.01)
            assert stage["good_requests"] == pytest.approx(stage["requests_per_second"])
            assert 0 < stage["first_token_median"] <= stage["first_token_p95"]
    assert (tmp_path / "rungs.svg").read_text().startswith("<svg")
