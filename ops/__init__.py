"""What a team runs beside the program: `python -m ops COMMAND`. Left out: the sandbox, and resources; the program logs `cost`'s sum."""
