"""`python -m ops smoke`: does a stack's service answer as its consumers need it to?

Asks from outside, by HTTP, what an OpenAI client would. Left out: load (one request at a time), the quality of the answers, and
mending anything.
"""
