"""The policy pack: one module for each theme, with rules as pure functions. Left out: Pulumi's policy SDK, which only `pack` uses."""
