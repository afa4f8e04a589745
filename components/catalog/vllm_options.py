"""Options of vLLM's server that take several values: `--lora-modules a=x b=y`. Every other option takes one value or none.

Read off the parser of the real server (vLLM 0.32), with which tests/vllm/test_real_server.py compares it. Left out: all else of the
options, which the server checks itself.
"""

from __future__ import annotations

SEVERAL_VALUES = frozenset(
    {
        "--allowed-media-domains",
        "--api-key",
        "--collect-detailed-traces",
        "--cpu-offload-params",
        "--cudagraph-capture-sizes",
        "--ignore-patterns",
        "--kv-cache-dtype-skip-layers",
        "--logits-processors",
        "--lora-modules",
        "--lora-target-modules",
        "--numa-bind-cpus",
        "--numa-bind-nodes",
        "--offload-params",
        "--served-model-name",
        "--sleep-preserve-parameter-names",
    }
)
