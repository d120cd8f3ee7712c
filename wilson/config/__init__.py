"""The door to YAML: what the user has written down, and where."""
