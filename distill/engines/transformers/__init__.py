"""Hugging Face models in this process, on GPU or CPU."""
