"""Delivery: build messages, bundle them and send them to the broker."""
