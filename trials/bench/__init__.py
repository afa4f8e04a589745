"""How long it takes and what it costs as it grows, measured on the sandbox: `make bench`."""
