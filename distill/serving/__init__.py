"""The student at work behind HTTP: texts of many clients, answered together."""
