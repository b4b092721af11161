"""Prefect around the flows: server, deployments, limits, notifications, artifacts, logs."""
