"""Encoder students: classifiers of a few milliseconds, on top of any encoder of transformers (Shishaev, 2025)."""
