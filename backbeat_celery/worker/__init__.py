"""The Celery side: tasks that run as nodes, signal hooks, and what lives in each worker."""
