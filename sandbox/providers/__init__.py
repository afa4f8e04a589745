"""Stand-ins for Pulumi's providers over the real provider protocol. Left out: the cloud and the API server behind them."""
