"""Verbs: whatever says ``await`` about when."""
