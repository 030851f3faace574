"""Delete what is no longer needed."""
