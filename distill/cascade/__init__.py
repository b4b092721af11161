"""Certified cascade: the student answers what it is sure of, the teacher the rest, within a promised risk."""
