"""Stands where vLLM stands in an image: its command line and its HTTP API, and no model, as every answer says."""
