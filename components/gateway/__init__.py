"""The front door: Gateway, routes, policies, certificate, and who may reach it. Left out: the cluster's switch and the proxies' subnet."""
