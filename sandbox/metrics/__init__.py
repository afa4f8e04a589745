"""Managed Service for Prometheus and the metrics adapter on one machine, with a real Prometheus behind both.

`scrape_config` turns PodMonitorings into Prometheus's configuration, `adapter` is what the sandbox has for the image of
Google's Custom Metrics Stackdriver Adapter, `published_images` names that image for the
nodes, `collection` runs Prometheus for a cluster while an adapter asks for it.
"""
