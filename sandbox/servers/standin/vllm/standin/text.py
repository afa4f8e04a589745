"""Text and its tokens. A token is four bytes of the text in UTF-8, about an English token's length.

Left out: any model's vocabulary, and so the numbers of tokens.
"""

from __future__ import annotations

from .settings import Place

_TOKEN_BYTES = 4


def count(text: str) -> int:
    """How many tokens the text has."""
    return -(-len(text.encode()) // _TOKEN_BYTES)


def answer(place: Place, model: str, prompt: str) -> str:
    """What the stand-in says to anything, in ASCII so that any cut of it is text."""
    words = " ".join(prompt.split())
    heard = words if len(words) <= 60 else words[:57] + "..."
    text = (
        f"This is a stand-in for vLLM in a sandbox with simulated hardware, and no model has thought about this. "
        f'{model} would answer here to: "{heard}". '
        f"Served by pod {place.pod} on node {place.node} of pool {place.pool} ({place.machine_type})."
    )
    return text.encode("ascii", "replace").decode()


def tokens_of(text: str) -> list[str]:
    """The text in the pieces in which it is generated."""
    return [text[start : start + _TOKEN_BYTES] for start in range(0, len(text), _TOKEN_BYTES)]
