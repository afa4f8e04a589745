"""What Google sells, as dated data: machines, what a node has to give, prices. Left out: what a stack chooses of it."""
