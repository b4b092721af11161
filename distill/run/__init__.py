"""A run on disk: its folder, stages, markers, row counts, records and the files they are kept in."""
