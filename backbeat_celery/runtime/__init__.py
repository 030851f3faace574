"""What everything stands on: the clock, transactions, connections, and what is kept for a call."""
