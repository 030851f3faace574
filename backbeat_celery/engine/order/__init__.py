"""Order: places among siblings, whose turn it is, who waits for whom, and what an end opens."""
