"""Stands in for Google's APIs below GKE: credentials, stock, operations, faults, times. Left out: clusters."""
