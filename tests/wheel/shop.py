"""The project's Celery app and its tasks."""

import os

from celery import Celery

from backbeat_celery import current_node, node_task

app = Celery("shop", set_as_current=True)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@node_task(name="reserve")
def reserve(camera: int) -> int:
    """Spawn the next step."""
    current_node().spawn(notify.s(camera), mode="non_blocking")
    return os.getpid()


@node_task(name="notify")
def notify(camera: int) -> str:
    """Tell the customer."""
    return f"camera {camera} is yours"
