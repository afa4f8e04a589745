"""What a stack may choose, and the one reader that checks it. Left out: what becomes of it."""
