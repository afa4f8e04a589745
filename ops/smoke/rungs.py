"""Whether the pools are interchangeable: one pod of each pool that serves is asked the same, past the load balancer.

Left out: the texts of the answers, which differ between accelerators in the last bits of their sums; and what no answer tells: whether
pods have another --revision or --generation-config.
"""

from __future__ import annotations

from collections.abc import Mapping

from ops.findings import Finding, failed, ok, skipped
from ops.smoke.service import Api, Failure
from ops.smoke.serving_pools import ServingPod, UnknownPool, Unreached
from ops.smoke.target import Target

_ROW = "rungs"

#: The prompt takes half of the context, up to so many words of about a token each, which any accelerator reads within seconds.
_MOST_WORDS = 2048
_ANSWER_TOKENS = 8

_DIFFER = "a client does not choose the pool that it comes to, so the same request gets different answers"
_FIX = "an update that is not done (`kubectl rollout status deployment/vllm`), or arguments that only tpuServerArguments or "
_FIX += "gpuServerArguments has: give both servers the same"


def compared(target: Target, pods: list[ServingPod] | UnknownPool, *, seconds: float, key: str = "", api: Api = "chat") -> Finding:
    """Fails if the served names, the model or its length differ, or a long request is not answered; `seconds` is for each request."""
    if isinstance(pods, UnknownPool):
        return skipped(_ROW, reason=str(pods))
    first = {pod.pool: pod for pod in reversed(pods)}
    pools = [*(pool for pool in target.pools if pool in first), *sorted(set(first) - set(target.pools))]
    if len(pools) < 2:
        return skipped(_ROW, reason=f"nothing to compare: {'pods serve on ' + pools[0] + ' alone' if pools else 'no pod is ready'}")
    rungs: dict[str, dict[str, str]] = {}
    failures: dict[str, Failure] = {}
    unreached: list[Unreached] = []
    # The same number of words for all.
    words = 0
    for pool in pools:
        try:
            with first[pool].service(seconds=seconds, key=key, api=api) as service:
                cards = service.models()
                card = cards.get(target.model, {})
                length = card.get("max_model_len")
                words = words or min(_MOST_WORDS, (length if isinstance(length, int) else _MOST_WORDS) // 2)
                rungs[pool] = {"served names": ", ".join(sorted(cards)), "model": str(card.get("root")), "max_model_len": str(length)}
                try:
                    service.ask(target.model, "sky " * words, max_tokens=_ANSWER_TOKENS, min_tokens=1, temperature=0)
                    answer = "answered"
                except Failure as failure:
                    failures[pool], answer = failure, failure.kind
                rungs[pool][f"a request of {words} words"] = answer
        except Unreached as failure:
            unreached.append(failure)
        except Failure as failure:
            failures[pool] = failure
    differences = _differences(rungs)
    causes = [f"pod {first[pool].name}: {failure}" for pool, failure in failures.items()]
    fixes = dict.fromkeys(failure.fix for failure in failures.values())
    if differences:
        return failed(_ROW, "; ".join(differences), reason="; ".join([_DIFFER, *causes]), fix="; ".join([_FIX, *fixes]))
    if failures:
        return failed(_ROW, f"not answered on {', '.join(failures)}", reason="; ".join(causes), fix="; ".join(fixes))
    if unreached:
        return skipped(_ROW, reason=str(unreached[0]), fix=unreached[0].fix)
    return ok(_ROW, f"{', '.join(pools)}: the same {', '.join(rungs[pools[0]])}")


def _differences(rungs: Mapping[str, Mapping[str, str]]) -> list[str]:
    facts: Mapping[str, str] = next(iter(rungs.values()), {})
    return [
        f"{fact}: {', '.join(f'{rung[fact]} on {pool}' for pool, rung in rungs.items())}"
        for fact in facts
        if len({rung[fact] for rung in rungs.values()}) > 1
    ]
