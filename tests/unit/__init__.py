"""Quick and offline: folders mirror the code's; what several share stands beside them. Left out: any process of a sandbox."""
