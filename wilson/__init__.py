"""Wilson stays in the conversation while others do the work."""

__version__ = "0.1.0"
