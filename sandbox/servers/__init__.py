"""The servers of the pods: the stand-in for vLLM, and real vLLM on the CPU. Left out: how they are started."""
