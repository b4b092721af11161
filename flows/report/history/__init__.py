"""Evaluations over time: what was measured, which result is the baseline, and whether a newer one fell behind it."""
