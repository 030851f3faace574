"""The lowest layer: clock, transactions, sessions, failpoints and the current node."""
