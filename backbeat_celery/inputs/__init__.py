"""Validate input before anything is written."""
