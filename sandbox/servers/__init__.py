"""What serves in a pod: the stand-in for vLLM, and real vLLM on the CPU. Left out: what starts it."""
