"""The report of a run: results.json, report.md, and one HTML file that needs nothing else."""
