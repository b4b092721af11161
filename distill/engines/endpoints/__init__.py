"""Servers that speak OpenAI's protocol: one (client.py), several that stand in for each other (pool.py)."""
