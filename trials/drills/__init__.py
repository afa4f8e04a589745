"""What breaks the stack, tried on the sandbox: `make drills` counts what was tried, what survived and what was lost."""
