"""The page's one question to the service, and who answered it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ops.smoke.service import Failure, Service

_SECONDS = 60.0

#: A question is a person's, not a document.
MOST_CHARACTERS = 2000

_MOST_TOKENS = 128


class Chat:
    """`document` is the latest view, for what the answer itself does not say."""

    def __init__(self, url: str, document: Callable[[], dict[str, Any]], *, model: str = "", key: str = "") -> None:
        self.url = url
        self._service = Service(url, seconds=_SECONDS, key=key)
        self._document = document
        self._model = model

    def ask(self, question: str) -> dict[str, Any]:
        """`text`, `who`, `seconds` and `first_token`; or `problem`."""
        if not self.url:
            return {"problem": "the service has no address yet, or none that its Service tells (--stack names it)"}
        try:
            # Without --stack, the one that is served.
            self._model = self._model or next(iter(self._service.models()))
            answer = self._service.ask(self._model, question, stream=True, max_tokens=_MOST_TOKENS)
        except Failure as failure:
            return {"problem": f"{failure}; {failure.fix}"}
        who = f"{answer.pod} on {answer.pool}, node {answer.node}" if answer.pod else self._likely()
        return {"text": answer.text, "who": who, "pool": answer.pool, "seconds": answer.seconds, "first_token": answer.first_token_seconds}

    def _likely(self) -> str:
        """vLLM's answers name no pod: what serves now."""
        serving = {rung["name"]: pods for rung in self._document().get("rungs", []) if (pods := _serving(rung))}
        if sum(map(len, serving.values())) == 1:
            return next(f"{pods[0]} on {rung}" for rung, pods in serving.items())
        return f"one of the replicas on {', '.join(serving) or 'no known rung'} (the answer names no replica)"


def _serving(rung: dict[str, Any]) -> list[str]:
    return [pod["name"] for node in rung["nodes"] for pod in node["pods"] if pod["state"] == "serving"]
