"""Stands in for Docker and Artifact Registry: builds, pushes, the store of images. Left out: running them."""
