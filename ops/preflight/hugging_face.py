"""Whether Hugging Face gives a model to the holder of a token: https://huggingface.co/docs/hub/api and .../models-gated

The token goes into a header and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ops.preflight.calls import CallFailed, Web

HOST = "huggingface.co"

Access = Literal[
    "granted",
    "needs-token",  # gated, and no token was given
    "not-granted",  # gated, and the token's account has not been let in
    "bad-token",  # the token itself is refused
    "missing",  # no such model, or a private one that the token does not see
]


@dataclass(frozen=True, kw_only=True)
class Model:
    access: Access
    gated: bool


def look_up(web: Web, model: str, token: str) -> Model:
    """`token` empty: asked anonymously. Raises `CallFailed`."""
    response = web.request("GET", web.url(HOST, f"/api/models/{model}"), headers=_headers(token))
    refused = False
    if response.status_code in (401, 403) and token:
        # A bad token is refused even for a public model: the same question without it tells the two apart.
        refused = True
        response = web.request("GET", web.url(HOST, f"/api/models/{model}"))
    if response.status_code in (401, 403, 404):
        return Model(access="missing", gated=False)
    if response.status_code != 200:
        raise CallFailed("refused", HOST, f"HTTP {response.status_code} for the model's description")
    try:
        description = response.json()
        gated = bool(description.get("gated", False))
        if "id" not in description:
            raise KeyError("id")
    except (ValueError, KeyError, AttributeError) as error:
        raise CallFailed("malformed", HOST, "the model's description is not a JSON object with an id") from error
    if refused:
        return Model(access="bad-token", gated=gated)
    if gated and not token:
        return Model(access="needs-token", gated=True)
    # The description of a gated model is public; only a file shows whether the gate is open.
    file = web.request("HEAD", web.url(HOST, f"/{model}/resolve/main/config.json"), headers=_headers(token))
    if file.status_code == 404:
        raise CallFailed("not-found", HOST, "it has no config.json, which vLLM needs")
    if file.status_code in (401, 403):
        return Model(access="not-granted" if token else "needs-token", gated=True)
    if file.status_code >= 400:
        raise CallFailed("refused", HOST, f"HTTP {file.status_code} for config.json")
    return Model(access="granted", gated=gated)


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
