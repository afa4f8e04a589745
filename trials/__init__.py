"""What measures the program and what tries to break it, on the sandbox. Left out: tests, which pass or fail."""
