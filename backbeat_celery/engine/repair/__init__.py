"""Repair: find what a crashed process has left unfinished, and finish it."""
