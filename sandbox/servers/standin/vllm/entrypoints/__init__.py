"""vLLM's package of this name; only `openai.api_server` is here."""
