"""What a team runs beside the program: `python -m ops COMMAND`. Left out: the program itself, and the sandbox."""
