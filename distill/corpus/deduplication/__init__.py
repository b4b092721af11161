"""Of texts that are the same, or nearly, one stays."""
