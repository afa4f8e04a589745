"""This machine: paths, ports, processes, files, certificates. Left out: anything that stands in for a cloud."""
