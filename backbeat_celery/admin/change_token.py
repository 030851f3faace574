"""A token that changes whenever something in a workflow changes: the ETag of its page."""

from __future__ import annotations

from hashlib import blake2s
from typing import Any

from django.db.models import Count, Max, Sum

from backbeat_celery.admin.summary import Summary
from backbeat_celery.models import Node, Workflow
from backbeat_celery.states import Status

PROGRESSES = 200
"""Running nodes whose progress is read."""


def change_token(workflow: Workflow, *parts: Any) -> str:
    """Give the ETag of a workflow's page, which also depends on `parts`.

    A node that finishes raises the latest end; all other changes are visible in open nodes.
    """
    nodes = Node.objects.using(workflow.alias).filter(workflow=workflow.pk).order_by()
    ended = nodes.filter(finished_at__isnull=False).aggregate(Max("finished_at"))
    state: list[Any] = [workflow.paused_at, workflow.closed_at, workflow.unfinished, *parts]
    state += [*ended.values(), *_open(nodes)]
    return blake2s(repr(state).encode(), digest_size=12).hexdigest()


def _open(nodes: Any) -> list[Any]:
    unfinished = nodes.filter(finished_at=None)
    groups = unfinished.values("status").annotate(
        Count("pk"),
        Max("created_at"),
        Max("started_at"),
        Max("fires_at"),
        Sum("attempt"),
        Sum("next_seq"),
    )
    rows = sorted(tuple(map(repr, group.values())) for group in groups)
    running = unfinished.filter(status=Status.RUNNING).order_by("pk")
    return [*rows, *running.values_list("pk", "progress")[:PROGRESSES]]


def is_moving(summary: Summary) -> bool:
    """Tell whether the workflow may change without a user's action."""
    return bool(set(summary.open) - {Status.FAILED, Status.PAUSED})
