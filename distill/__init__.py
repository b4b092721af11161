"""sentidistill's library: corpus, prompts, teacher generation and two-stage training of a small sentiment model."""

__version__ = "0.1.0"
