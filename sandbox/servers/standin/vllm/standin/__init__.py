"""The stand-in for vLLM's OpenAI-compatible server.

It exists so that everything around a model server can be run for real where there is no accelerator: command lines,
probes, start-up times, streaming, queues, metrics, drains. Left out: models, tokenizers, sampling (temperature,
logprobs and the like are accepted and change nothing), LoRA, embeddings and the other endpoints of vLLM, TLS.
"""

#: The release whose flags, messages and metrics are followed.
VLLM_VERSION = "0.31.0"

#: The version that the server reports, so that its answers are not taken for a model's.
VERSION = f"{VLLM_VERSION}+sandbox.standin"
