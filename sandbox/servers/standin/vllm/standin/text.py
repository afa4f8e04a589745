"""Text and its tokens. A token is four bytes of the text in UTF-8, about an English token's length.

Left out: any model's vocabulary. A token's number says its bytes, so that a text and its tokens can be turned into each
other without one.
"""

from __future__ import annotations

from .settings import Place

_TOKEN_BYTES = 4


def encode(text: str) -> list[int]:
    """Token numbers; each is its bytes after a leading 1."""
    data = text.encode()
    pieces = [data[start : start + _TOKEN_BYTES] for start in range(0, len(data), _TOKEN_BYTES)]
    return [int.from_bytes(b"\x01" + piece, "big") for piece in pieces]


def decode(tokens: list[int]) -> str:
    """Raises `ValueError` for a number without a token."""
    data = bytearray()
    for token in tokens:
        piece = token.to_bytes((token.bit_length() + 7) // 8, "big") if token > 0 else b""
        if piece[:1] != b"\x01" or len(piece) > _TOKEN_BYTES + 1:
            raise ValueError(f"{token} is not a token")
        data += piece[1:]
    return data.decode(errors="replace")


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
