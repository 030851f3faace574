"""Three projects before and after: their tasks are the same, their call sites differ by a line."""
