"""The images' scripts as processes, and real builds where a Docker daemon is. Left out: what the Deployment makes of them."""
