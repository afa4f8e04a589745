"""Breaks things and counts what was tried, what survived and what was lost: `make drills`. Left out: measuring speed."""
