"""Outcomes that come from outside the handler."""
