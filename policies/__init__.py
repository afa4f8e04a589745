"""The policy pack: one module a theme, each with rules as pure functions; `pack` alone knows Pulumi's policy SDK."""
