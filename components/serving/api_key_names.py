"""What the Kubernetes Secret with the API key is called, for whoever reads it from a cluster and has no use for Pulumi's SDK."""

SECRET_NAME = "vllm-api-key"  # noqa: S105 - the name of a Secret
SECRET_KEY = "api_key"  # noqa: S105 - the key in it
