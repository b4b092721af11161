"""The parts of the config tree, one file a subject; :mod:`distill.config.schema` puts them together."""
