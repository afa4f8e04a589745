"""Stands where vLLM stands in an image: the same command line and HTTP API, no model. It says so wherever it answers."""
