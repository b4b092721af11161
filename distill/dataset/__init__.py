"""From teacher responses to training rows: the quality filter, and an account of every row it drops."""
