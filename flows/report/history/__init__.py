"""Evaluations over time: what was measured, which result is the reference, and whether a newer one fell behind it."""
