"""Whether the pools are interchangeable: one pod of each pool that serves is asked the same, past the load balancer.

Left out: the texts of the answers, which differ between accelerators in the last bits of their sums; and what no answer tells: whether
pods have another --revision or --generation-config.
"""

from __future__ import annotations

from collections.abc import Mapping

from ops.findings import Finding, failed, ok, skipped
from ops.smoke.service import Api, Failure
from ops.smoke.serving_pools import ServingPod, UnknownPool
from ops.smoke.target import Target

_ROW = "rungs"

#: The prompt takes half of the context, up to so many words of about a token each, which any accelerator reads within seconds.
_MOST_WORDS = 2048
_ANSWER_TOKENS = 8

_DIFFER = "a client does not choose the pool that it comes to, so the same request gets different answers"
_FIX = "an update that is not done (`kubectl rollout status deployment/vllm`), or arguments that only tpuServerArguments or "
_FIX += "gpuServerArguments has: give both servers the same"
_PROXY = "allow `get` and `create` of pods/proxy (roles/container.developer has both), and see `kubectl logs` of that pod"


def compared(target: Target, pods: list[ServingPod] | UnknownPool, *, seconds: float, api: Api = "chat") -> Finding:
    """Fails if the served names, the model or its length differ, or a long request is not answered; `seconds` is for each request."""
    if isinstance(pods, UnknownPool):
        return skipped(_ROW, reason=str(pods))
    first = {pod.pool: pod for pod in reversed(pods)}
    pools = [*(pool for pool in target.pools if pool in first), *sorted(set(first) - set(target.pools))]
    if len(pools) < 2:
        return skipped(_ROW, reason=f"nothing to compare: {'pods serve on ' + pools[0] + ' alone' if pools else 'no pod is ready'}")
    rungs: dict[str, dict[str, str]] = {}
    failures: dict[str, Failure] = {}
    unasked: list[Finding] = []
    # The same number of words for all.
    words = 0
    for pool in pools:
        try:
            with first[pool].service(seconds=seconds, api=api) as service:
                cards = service.models()
                card = cards.get(target.model, {})
                length = card.get("max_model_len")
                words = words or min(_MOST_WORDS, (length if isinstance(length, int) else _MOST_WORDS) // 2)
                rung = {
                    "served names": ", ".join(sorted(cards)),
                    "model": str(card.get("root")),
                    "max_model_len": str(length),
                    f"a request of {words} words": "answered",
                }
                try:
                    prompt = "sky " * words
                    service.ask(target.model, prompt, max_tokens=_ANSWER_TOKENS, min_tokens=1, temperature=0)
                except Failure as failure:
                    if failure.kind in ("HTTP 401", "HTTP 403"):
                        raise
                    # The proxy led to the pod a moment ago, so this is the server's own.
                    failures[first[pool].name] = failure
                    rung[f"a request of {words} words"] = failure.kind
            rungs[pool] = rung
        except Failure as failure:
            unasked.append(_unasked(first[pool], failure))
    differences = _differences(rungs)
    causes = [f"pod {name}: {failure}" for name, failure in failures.items()]
    fixes = dict.fromkeys(failure.fix for failure in failures.values())
    if differences:
        return failed(_ROW, "; ".join(differences), reason="; ".join([_DIFFER, *causes]), fix="; ".join([_FIX, *fixes]))
    if failures:
        value = f"a request of {words} words is not answered on {', '.join(rungs)}"
        return failed(_ROW, value, reason="; ".join(causes), fix="; ".join(fixes))
    if unasked:
        return unasked[0]
    return ok(_ROW, f"{', '.join(pools)}: the same {', '.join(rungs[pools[0]])}")


def _unasked(pod: ServingPod, failure: Failure) -> Finding:
    if failure.kind == "HTTP 401":
        reason = f"pod {pod.name} wants an API key, which the API server's proxy does not pass on"
        return skipped(_ROW, reason=reason, fix=f"compare /v1/models by `kubectl port-forward pod/{pod.name} 8000`")
    return skipped(_ROW, reason=f"pod {pod.name} cannot be asked by the API server's proxy: {failure}", fix=_PROXY)


def _differences(rungs: Mapping[str, Mapping[str, str]]) -> list[str]:
    facts: Mapping[str, str] = next(iter(rungs.values()), {})
    return [
        f"{fact}: {', '.join(f'{rung[fact]} on {pool}' for pool, rung in rungs.items())}"
        for fact in facts
        if len({rung[fact] for rung in rungs.values()}) > 1
    ]
