"""The run config: its schema (:mod:`distill.config.schema`) and how it is read (:mod:`distill.config.load`)."""
