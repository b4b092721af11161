"""Measurements, each against a named alternative in one run. None of them is a test: machines are shared and noisy."""
