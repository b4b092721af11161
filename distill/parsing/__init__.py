"""What a model's answer says: labels, Python literals, and where its reasoning ends."""
