"""Repair: find what a process left half done, and call the step that finishes it."""
