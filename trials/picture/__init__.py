"""The picture of the live page in README, from a sandbox that runs, and the browser that takes it. Left out: pictures of anything else."""
