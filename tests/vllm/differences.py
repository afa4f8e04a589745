"""Where the stand-in differs from real vLLM, and why it is left so."""

from __future__ import annotations

ANSWERS: dict[str, list[str]] = {}
ROUTES: set[str] = set()
METRICS: set[str] = set()
FLAGS_OF_VLLM_ALONE: set[str] = set()
FLAGS_OF_THE_STAND_IN_ALONE: set[str] = set()
