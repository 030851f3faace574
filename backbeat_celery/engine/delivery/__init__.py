"""Delivery: when a message is due, what it says, and how it gets to the broker."""
