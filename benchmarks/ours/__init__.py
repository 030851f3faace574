"""The project that the rounds of backbeat-celery run in."""
