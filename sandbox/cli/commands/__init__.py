"""What each command of `python -m sandbox` does and takes. Left out: what several commands share."""
