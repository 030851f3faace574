"""Celery tasks for schedules, found by `autodiscover_tasks()`."""

from __future__ import annotations

from celery import shared_task

from backbeat_celery.conf import settings
from backbeat_celery.engine.sweep import Sweep
from backbeat_celery.models import node_alias


@shared_task(name="backbeat.sweep", ignore_result=True)
def sweep() -> None:
    """Make one repair pass; for a beat schedule beside the workers' own sweepers."""
    for using in settings.databases or [node_alias()]:
        Sweep(using).run()
