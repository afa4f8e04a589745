"""One file an entity of the graph; `settings` alone reads configuration, and no component does more than its arguments say."""
