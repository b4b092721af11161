"""The pipeline: the flow, its steps, and the `distill` command."""
