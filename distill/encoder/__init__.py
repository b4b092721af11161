"""Encoder students: small classifiers on top of any encoder of transformers (Shishaev, 2025)."""
