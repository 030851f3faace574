"""Tell people what has failed."""
