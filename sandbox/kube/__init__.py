"""A small client of the Kubernetes API and the names that the sandbox's parts share. Left out: the provider's client."""
