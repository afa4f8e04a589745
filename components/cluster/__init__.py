"""The cluster, its network, its accelerator pools, its images and the ComputeClass. Left out: what runs on it."""
