"""Real vLLM behind the images' scripts, and the stand-in held against it; opt-in. Left out: Kubernetes."""
