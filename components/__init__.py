"""One file for each entity of the graph. Only `settings` reads configuration; components depend on their arguments alone."""
