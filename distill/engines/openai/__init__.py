"""Servers that speak OpenAI's protocol: one endpoint, or several that stand in for each other."""
