"""Calendar starts: what `backbeat.signal` makes of a message from beat."""
