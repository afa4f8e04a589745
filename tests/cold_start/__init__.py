"""Real Cloud Storage FUSE under the weights cache, as several nodes use it; opt-in. Left out: the graph that makes the cache."""
