"""vLLM's package of this name; only `api_server` is here."""
