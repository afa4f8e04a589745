"""Measures the program and tries to break it, on the sandbox. Left out: tests, which pass or fail."""
