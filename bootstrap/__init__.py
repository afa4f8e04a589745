"""The one-time set-up of a team's project, a Pulumi program of its own. Left out: what the pipelines deploy."""
