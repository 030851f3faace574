"""Celery's own tests of its canvas, run on plain Celery and on nodes: `python -m tests.canvas`."""
