"""Measures how long the program takes and what it costs as it grows: `make bench`. Left out: what breaks it."""
