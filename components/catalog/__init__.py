"""What Google sells, as dated data: machines, what a node offers to pods, prices. Left out: what a stack chooses from it."""
