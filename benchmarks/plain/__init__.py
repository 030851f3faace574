"""A project without backbeat-celery and without Django: what Celery itself does."""
