"""Delete workflows and nodes that are no longer needed."""
