"""Names of the Kubernetes Secret with the API key, for programs that read it from a cluster without Pulumi's SDK."""

SECRET_NAME = "vllm-api-key"  # noqa: S105 - the name of a Secret
SECRET_KEY = "api_key"  # noqa: S105 - the key in it
