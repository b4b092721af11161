"""The report on encoder students: scores beside the paper's, learning curves, confusion, embeddings."""
