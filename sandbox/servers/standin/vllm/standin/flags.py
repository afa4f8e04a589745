"""vLLM's flags, as its own parser takes them: an unknown flag or a badly formed value ends the process with status 2.

The names and kinds were read from the argument definitions of vLLM 0.31.0, the release of the GPU image; the TPU image's 0.27 may refuse
what is accepted here. Left out: --config (arguments from a YAML file), and the lists of choices that vLLM takes
from plugins or hardware, so that some wrong words are accepted.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

#: Flags without a value and without a `--no-` form.
_SWITCHES = """
aggregate-engine-logging data-parallel-multi-port-external-lb disable-log-stats headless
"""

#: `--name` and `--no-name`.
_BOOLEANS = """
allow-credentials allow-deprecated-quantization async-scheduling cohere-is-reasoning-model cudagraph-metrics
data-parallel-external-lb data-parallel-hybrid-lb dcp-q-replicate disable-cascade-attn disable-chunked-mm-input
disable-custom-all-reduce disable-fastapi-docs disable-hybrid-kv-cache-manager
disable-nccl-for-dp-synchronization disable-sliding-window disable-uvicorn-access-log enable-auto-tool-choice
enable-batch-sharded-sampling enable-chunked-prefill enable-cumem-allocator enable-dbo enable-elastic-ep
enable-ep-weight-filter enable-eplb enable-expert-parallel enable-fault-tolerance enable-flash-late-interaction
enable-flashinfer-autotune enable-force-include-usage enable-layerwise-nvtx-tracing enable-log-deltas
enable-log-outputs enable-log-requests enable-logging-iteration-details enable-lora
enable-mamba-cache-stochastic-rounding enable-mamba-shared-prefix-checkpoint enable-mfu-metrics
enable-mixed-moe-lora-format enable-mm-embeds enable-moe-shared-loras enable-nccl-comm-suspend
enable-offline-docs enable-per-request-metrics enable-prefix-caching enable-prompt-embeds
enable-prompt-tokens-details enable-request-id-headers enable-return-routed-experts enable-scale-out
enable-server-load-tracking enable-sleep-mode enable-ssl-refresh enable-tokenizer-info-endpoint
enable-tower-connector-lora enable-trace-replay enforce-eager exclude-tools-when-tool-choice-none
fail-on-environ-validation fully-sharded-loras interleave-mm-strings jit-monitor-verbose kv-cache-metrics
kv-sharing-fast-prefill language-model-only log-error-stack long-prefill-token-threshold-adaptive
mm-device-do-normalize mm-encoder-only numa-bind ray-workers-use-nsight return-sampling-mask
return-tokens-as-token-ids scheduler-reserve-full-isl skip-mm-profiling skip-tokenizer-init
specialize-active-lora swa-bounded-replay tokens-only trust-remote-code trust-request-chat-template
trust-request-mm-kwargs use-fp64-gumbel use-replayssm use-tqdm-on-load
"""

#: One word.
_STRINGS = """
all2all-backend allowed-local-media-path anthropic-disabled-thinking-effort attention-backend chat-template
chat-template-content-format code-revision cohere-format config-format convert data-parallel-address
data-parallel-backend dcp-comm-backend disable-access-log-for-endpoints distributed-executor-backend
download-dir dtype expert-placement-strategy fingerprint-mode fingerprint-value gdn-prefill-backend
generation-config hf-config-path hf-overrides hf-token host io-processor-plugin jit-monitor-mode
kda-decode-backend kda-prefill-backend kv-cache-dtype kv-offloading-backend limit-mm-per-prompt linear-backend
load-format log-config-file log-level logprobs-mode lora-dtype mamba-backend mamba-cache-dtype mamba-cache-mode
mamba-ssm-cache-dtype mamba-ssu-algorithm master-addr mm-encoder-attn-backend mm-encoder-attn-dtype
mm-encoder-fp8-scale-path mm-encoder-fp8-scale-save-path mm-encoder-tp-mode mm-hasher-algorithm
mm-processor-cache-type mm-processor-device mm-tensor-ipc model model-impl moe-backend offload-backend
optimization-level otlp-traces-endpoint per-request-spec-decode-metrics performance-mode
prefix-caching-hash-algo pt-load-map-location quantization reasoning-parser reasoning-parser-plugin
response-role revision root-path runner safetensors-load-strategy scheduler-cls scheduling-policy
show-hidden-metrics-for-version sparse-indexer-topk-backend spec-method spec-model ssl-ca-certs ssl-certfile
ssl-ciphers ssl-keyfile tokenizer tokenizer-mode tokenizer-revision tool-call-parser tool-parser-plugin
tool-server tool-strict-level uds uvicorn-log-level video-pruning-method worker-cls worker-extension-cls
"""

#: One integer.
_INTEGERS = """
api-server-count block-size cp-kv-cache-interleave-size cpu-distributed-timeout-seconds data-parallel-rank
data-parallel-rpc-port data-parallel-size data-parallel-size-local data-parallel-start-rank
data-parallel-supervisor-port dbo-decode-token-threshold dbo-prefill-token-threshold
dcp-kv-cache-interleave-size decode-context-parallel-size distributed-timeout-seconds
dp-supervisor-probe-failure-threshold dp-sync-interval elastic-ep-max-dp-size h11-max-header-count
h11-max-incomplete-event-size long-prefill-token-threshold mamba-block-size mamba-cache-philox-rounds
master-port max-cpu-loras max-cudagraph-capture-size max-log-len max-logprobs max-lora-cls-labels max-lora-rank
max-loras max-num-active-seqs max-num-queued-reqs max-num-seqs max-parallel-loading-workers
mm-shm-cache-max-object-size-mb nnodes node-rank num-gpu-blocks-override offload-group-size offload-num-in-group
offload-prefetch-step pipeline-parallel-size port prefill-context-parallel-size prefill-schedule-interval
prefix-cache-retention-interval prefix-match-unit renderer-num-workers replayssm-buffer-len
safetensors-prefetch-num-threads seed shutdown-timeout spec-tokens sse-keep-alive-interval ssl-cert-reqs
stream-interval tensor-parallel-size ubatch-size
"""

#: One integer that may be written `8k` (8,000) or `8K` (8,192).
_HUMAN_INTEGERS = """
kv-cache-memory-bytes max-model-len max-num-batched-tokens max-num-queued-tokens max-num-scheduled-tokens
safetensors-prefetch-block-size
"""

#: One number.
_FLOATS = """
cpu-offload-gb dp-supervisor-probe-interval-s dp-supervisor-probe-timeout-s gpu-memory-utilization
kv-cache-metrics-sample kv-offloading-size mm-encoder-fp8-scale-save-margin mm-ipc-gpu-memory-gb
mm-processor-cache-gb video-pruning-rate watermark
"""

#: One JSON document, or its keys one by one: `--name.key value`.
_JSON = """
additional-config allowed-headers allowed-methods allowed-origins attention-config aux-output-config
compilation-config default-chat-template-kwargs default-mm-loras diffusion-config ec-manager-config
ec-transfer-config engram-config eplb-config fault-tolerance-config ir-op-priority kernel-config
kv-events-config kv-transfer-config logging-config media-io-kwargs mm-processor-kwargs model-class-overrides
model-loader-extra-config override-generation-config pooler-config profiler-config quantization-config
reasoning-config speculative-config structured-outputs-config watermark-config weight-transfer-config
"""

#: One or more words.
_LISTS = """
allowed-media-domains api-key collect-detailed-traces cpu-offload-params cudagraph-capture-sizes device-ids
ignore-patterns kv-cache-dtype-skip-layers logits-processors lora-modules lora-target-modules numa-bind-cpus
numa-bind-nodes offload-params served-model-name sleep-preserve-parameter-names
"""

_CHOICES = {
    "dtype": "auto half float16 bfloat16 float float32",
    "logprobs-mode": "raw_logits raw_logprobs processed_logits processed_logprobs",
    "safetensors-load-strategy": "lazy eager prefetch torchao",
    "kv-cache-dtype": "auto float16 bfloat16 fp8 fp8_e4m3 fp8_e5m2 fp8_inc fp8_ds_mla nvfp4_ds_mla turboquant_k8v4 turboquant_4bit_nc "
    "turboquant_k3v4_nc turboquant_3bit_nc int4_per_token_head int8_per_token_head fp8_per_token_head nvfp4 nvfp4_4over6",
    "prefix-caching-hash-algo": "sha256 sha256_cbor xxhash xxhash_cbor",
    "scheduling-policy": "fcfs priority",
    "performance-mode": "balanced interactivity throughput",
}

#: Short form of a flag, and the flag.
_SHORT = """
-q:quantization -pp:pipeline-parallel-size -n:nnodes -r:node-rank -tp:tensor-parallel-size
-dcp:decode-context-parallel-size -pcp:prefill-context-parallel-size -dp:data-parallel-size -dpn:data-parallel-rank
-dpr:data-parallel-start-rank -dpl:data-parallel-size-local -dpa:data-parallel-address -dpp:data-parallel-rpc-port
-dpb:data-parallel-backend -dph:data-parallel-hybrid-lb -dpe:data-parallel-external-lb
-dpm:data-parallel-multi-port-external-lb -ep:enable-expert-parallel
--device-memory-utilization:gpu-memory-utilization -sc:speculative-config -dc:diffusion-config
-cc:compilation-config -ac:attention-config
"""


def parser() -> argparse.ArgumentParser:
    """A parser with vLLM's flags; every value that was not given is None."""
    result = _Parser(prog="api_server.py", description="Sandbox stand-in for vLLM's OpenAI-compatible API server.")
    result.add_argument("model_tag", nargs="?", help="the model to serve")
    result.add_argument("--middleware", action="append")
    short_forms = [pair.split(":") for pair in _SHORT.split()]
    kinds = {
        "true": _SWITCHES,
        "bool": _BOOLEANS,
        "str": _STRINGS,
        "int": _INTEGERS,
        "human": _HUMAN_INTEGERS,
        "float": _FLOATS,
        "json": _JSON,
        "list": _LISTS,
    }
    for kind, names in kinds.items():
        for name in names.split():
            spellings = [f"--{name}", *(short for short, long in short_forms if long == name)]
            if kind == "true":
                result.add_argument(*spellings, action="store_true")
            elif kind == "bool":
                result.add_argument(*spellings, action=argparse.BooleanOptionalAction)
            elif kind == "list":
                result.add_argument(*spellings, nargs="+")
            else:
                result.add_argument(*spellings, type=_TYPES[kind], choices=_CHOICES[name].split() if name in _CHOICES else None)
    return result


def _human_integer(text: str) -> int:
    if text.lower() == "auto":
        return -1
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt])", text):
        return round(float(match[1]) * 1e3 ** ("kmgt".index(match[2]) + 1))
    if match := re.fullmatch(r"(\d+)([KMGT])", text):
        return int(match[1]) << 10 * ("KMGT".index(match[2]) + 1)
    return int(text)


def _json_document(text: str) -> object:
    return json.loads(text)


_TYPES: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "human": _human_integer, "float": float, "json": _json_document}


class _Parser(argparse.ArgumentParser):
    """Takes underscores for dashes, and single keys of a JSON flag, as vLLM's parser does."""

    def parse_args(self, args: list[str], namespace: None = None) -> argparse.Namespace:  # type: ignore[override]
        plain: list[str] = []
        words = iter(args)
        for word in words:
            name, equals, value = word.partition("=")
            if not name.startswith("--"):
                plain.append(word)
                continue
            name, dot, key = name.partition(".")
            name = name.replace("_", "-")
            if dot and name[2:] in _JSON.split():
                plain += [name, json.dumps({key: value if equals else next(words, "")})]
            else:
                plain.append(name + dot + key + equals + value)
        return super().parse_args(plain, namespace)

    def error(self, message: str) -> NoReturn:
        super().error(f"{message} (vLLM's flags are those of release 0.31.0; this is the sandbox's stand-in for it)")
