"""Texts of the benchmark, found in whatever form they were prepared."""
