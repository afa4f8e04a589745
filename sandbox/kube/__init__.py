"""A small client of the Kubernetes API that the sandbox's parts share. Left out: the provider's client."""
