"""Experiments: variants of a config, each trained with several seeds, which share all that is the same, on one page."""
