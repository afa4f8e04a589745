"""The commands, their screens, and how they query a running sandbox. Left out: the sandbox's parts."""
