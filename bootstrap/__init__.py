"""The one-time set-up of a team's project: a Pulumi program of its own, apart from what it lets be deployed."""
