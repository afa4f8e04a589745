"""Where the stand-in differs from real vLLM, and why it is left so: what is there -> the reason."""


def _each(names: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


#: Exchange -> difference -> reason.
ANSWERS: dict[str, dict[str, str]] = {
    "a prompt beyond the context": {
        "body.error.param: vLLM 'input_text', stand-in 'input_tokens'": "vLLM first refuses by characters, with a limit "
        "from the tokenizer's longest token, and by tokens only below that; the stand-in has no tokenizer"
    }
}

#: METHOD PATH -> reason.
ROUTES: dict[str, str] = {
    **{
        f"{method} {path}": "documentation pages that the web framework makes of vLLM's code"
        for method in ("GET", "HEAD")
        for path in ("/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc")
    },
    **{
        f"POST {path}": "other APIs than OpenAI's completions, which nothing here uses"
        for path in (
            *("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/render", "/v1/systemone"),
            *("/v1/responses", "/v1/responses/render", "/v1/responses/{response_id}/cancel"),
            *("/generative_scoring", "/invocations", "/v1/chat/completions/batch", "/tokenize", "/detokenize"),
        )
    },
    "GET /v1/responses/{response_id}": "other APIs than OpenAI's completions, which nothing here uses",
    **{
        f"POST {path}": "tokens in and out, for servers that split prefill from decoding"
        for path in (
            *("/inference/v1/generate", "/inference/v1/abort_requests"),
            *("/v1/chat/completions/render", "/v1/chat/completions/derender"),
            *("/v1/completions/render", "/v1/completions/derender"),
        )
    },
    **{f"POST {path}": "resizes a server with expert parallelism" for path in ("/scale_elastic_ep", "/is_scaling_elastic_ep")},
    "GET /kv_event_sources": "KV events, of which the stand-in has none",
}

#: Metric family -> reason.
METRICS: dict[str, str] = {
    **_each(
        "http_request_duration_highr_seconds http_request_duration_seconds http_request_size_bytes http_requests_total "
        "http_response_size_bytes",
        "per HTTP route, from the web framework's instrumentation",
    ),
    **_each(
        "python_gc_collections_total python_gc_objects_collected_total python_gc_objects_uncollectable_total python_info",
        "of the Python process, which is another's",
    ),
    **_each(
        "vllm:estimated_flops_per_gpu_total vllm:estimated_read_bytes_per_gpu_total "
        "vllm:estimated_write_bytes_per_gpu_total vllm:cache_config_info vllm:engine_sleep_state",
        "of a model on a device, and the stand-in has neither",
    ),
    **_each(
        "vllm:external_prefix_cache_hits_total vllm:external_prefix_cache_queries_total vllm:mm_cache_hits_total "
        "vllm:mm_cache_queries_total vllm:prompt_tokens_by_source_total vllm:prompt_tokens_cached_by_source_total "
        "vllm:prompt_tokens_cached_total vllm:request_prefill_kv_computed_tokens",
        "of caches that the stand-in has not",
    ),
    **_each(
        "vllm:admission_rejections_total vllm:num_requests_waiting_by_reason vllm:request_num_preemptions vllm:iteration_tokens_total",
        "of decisions that the stand-in's scheduler does not make",
    ),
    **_each(
        "vllm:request_decode_time_seconds vllm:request_prefill_time_seconds vllm:request_time_per_output_token_seconds "
        "vllm:request_max_num_generation_tokens vllm:request_params_max_tokens vllm:request_params_n",
        "finer than what autoscaling and dashboards here use",
    ),
}

#: Flag -> reason.
FLAGS_OF_VLLM_ALONE: dict[str, str] = {
    "--config": "a YAML file of arguments: the Deployment passes its own",
    **_each(
        "-asc --custom-histogram-buckets --enable-hc-sp --no-enable-hc-sp --enable-shm-tensor-arena "
        "--no-enable-shm-tensor-arena --grpc --grpc-port --sleep-mode-offload-cudagraph "
        "--no-sleep-mode-offload-cudagraph",
        "new in 0.32.0; the stand-in has the flags of the GPU image's release, 0.31.0",
    ),
}
