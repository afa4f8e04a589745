"""Where a Deployment of vLLM names its API key's Secret, for programs that read it from a cluster without Pulumi's SDK."""

#: The servers' environment variable, vLLM's own: https://docs.vllm.ai/en/stable/configuration/env_vars/
VARIABLE = "VLLM_API_KEY"
SECRET_KEY = "api_key"  # noqa: S105 - the key in the Secret
