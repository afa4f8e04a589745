"""How fast each rung of a stack's ladder serves, and what its tokens cost: `python -m ops benchmark`.

One pod of each pool is measured past the load balancer, by inference-perf (https://github.com/kubernetes-sigs/inference-perf), which
Kubernetes's serving group keeps: it streams, counts the server's own tokens and knows latency goals. It takes 0.8 GB; `vllm bench serve`
needs all of vLLM (5.2 GB), and guidellm needs PyTorch. Left out: the quality of answers, and real prompts.
"""
