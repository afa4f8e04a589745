"""The commands' screens, and what they ask of a running sandbox. Left out: what the sandbox is made of."""
