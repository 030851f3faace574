"""A small shop whose purchases run as workflows. Start it with `tox run -e demo`."""

from demo_project.celery import app as celery_app

__all__ = ["celery_app"]
