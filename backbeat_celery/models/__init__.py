"""The tables: workflows, nodes, their history, and the cluster of workers."""

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

# Django's own error names a model, and no remedy.
if apps.apps_ready and not apps.is_installed("backbeat_celery"):
    raise ImproperlyConfigured(
        "Add 'backbeat_celery' to INSTALLED_APPS, and run manage.py migrate."
    )

from backbeat_celery.models.cluster import SweeperLease, WorkerHeartbeat
from backbeat_celery.models.history import Attempt, Transition
from backbeat_celery.models.node import Link, Node, node_alias
from backbeat_celery.models.workflow import Workflow

__all__ = [
    "Attempt",
    "Link",
    "Node",
    "SweeperLease",
    "Transition",
    "WorkerHeartbeat",
    "Workflow",
    "node_alias",
]
