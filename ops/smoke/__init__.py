"""Checks that a stack's service answers as its consumers need: `python -m ops smoke`.

Asks from outside, by HTTP, what an OpenAI client would. Left out: load (one request at a time), the quality of the answers, and
mending anything.
"""
