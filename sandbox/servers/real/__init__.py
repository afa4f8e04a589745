"""The real vLLM behind the sandbox's pods (`python -m sandbox up --server vllm`): its installation and a tiny model."""
