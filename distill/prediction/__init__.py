"""The student at work: texts to labels, in this process or for a whole file of them."""
