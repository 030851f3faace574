"""Keep database connections as long as Django's own settings say.

Celery's Django fixup closes every connection before and after each task, which costs two
logins a task. A worker with this app follows CONN_MAX_AGE and CONN_HEALTH_CHECKS instead, as
a web request does, and gives pooled connections back to their pool.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.fixups.django import DjangoFixup, DjangoWorkerFixup  # type: ignore[attr-defined]
from django.db import close_old_connections, connections
from kombu.utils.compat import detect_environment


class LastingConnectionsFixup(DjangoWorkerFixup):  # type: ignore[misc]
    """Celery's fixup with Django's rule for the end of a request."""

    def on_task_prerun(self, sender: Any, **kwargs: Any) -> None:
        if not _is_eager(sender):
            close_old_connections()

    def on_task_postrun(self, sender: Any, **kwargs: Any) -> None:
        if not _is_eager(sender):
            if detect_environment() == "default":
                close_old_connections()
            else:
                # A greenlet has connections of its own and lives for one task.
                connections.close_all()
            self.close_cache()


def keep_connections(app: Celery) -> None:
    """Replace the fixup's worker part, unless the project has chosen Celery's own rule."""
    if app.conf.get("CELERY_DB_REUSE_MAX", None):
        return
    for fixup in app._fixups:  # type: ignore[attr-defined]
        if isinstance(fixup, DjangoFixup):
            fixup.worker_fixup = LastingConnectionsFixup(app)  # type: ignore[misc]


def _is_eager(task: Any) -> bool:
    return bool(getattr(task.request, "is_eager", False))
