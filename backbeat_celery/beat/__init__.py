"""Scheduled starts: how the task `backbeat.signal` handles a message from Celery beat."""
