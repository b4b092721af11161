"""The ``distill`` command: its arguments, and what each of its commands does and prints."""
