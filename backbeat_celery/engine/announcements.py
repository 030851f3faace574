"""Announce ended nodes and workflows: log failures and send Django signals.

This happens at most once: if the process dies after the commit, nothing is announced. Django logs
a receiver that raises, and the others are still called. Rows are read only if a signal has
receivers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db import Error as AnyDatabaseError
from django.db.models import Model, QuerySet
from django.dispatch import Signal

from backbeat_celery.engine.after_commit import Announcements
from backbeat_celery.engine.failure_log import log_failures
from backbeat_celery.models import Node, Workflow
from backbeat_celery.runtime import sessions
from backbeat_celery.runtime.batches import batched
from backbeat_celery.signals import node_completed, node_failed, workflow_completed

logger = logging.getLogger(__name__)
M = TypeVar("M", bound=Model)

BATCH = 500
"""Rows read at once: one transaction may complete a thousand flags."""


def announce(ended: Announcements, using: str) -> None:
    """Log failures and send the signals of what has ended in a committed transaction."""
    log_failures(ended.failed)
    failed = [failure.node_id for failure in ended.failed]
    try:
        if _is_wanted(node_failed, Node, failed):
            for node in _read(_nodes(using), failed):
                _send(node_failed, using, sender=Node, node=node)
        if _is_wanted(node_completed, Node, ended.completed):
            for node in _read(_nodes(using), ended.completed):
                _send(node_completed, using, sender=Node, node=node)
        if _is_wanted(workflow_completed, Workflow, ended.workflows):
            for workflow in _read(Workflow.objects.using(using).all(), ended.workflows):
                _send(workflow_completed, using, sender=Workflow, workflow=workflow)
    except AnyDatabaseError:
        logger.exception("Cannot read the ended nodes; their signals are not sent.")


def is_wanted(ended: Announcements) -> bool:
    """Tell whether there is anything to log, or a signal with receivers."""
    return bool(
        ended.failed
        or _is_wanted(node_completed, Node, ended.completed)
        or _is_wanted(workflow_completed, Workflow, ended.workflows)
    )


def _send(signal: Signal, using: str, **what: Any) -> None:
    with sessions.of_project(using):
        signal.send_robust(**what)


def _is_wanted(signal: Signal, model: type[Model], ids: Sequence[UUID]) -> bool:
    return bool(ids) and signal.has_listeners(model)


def _nodes(using: str) -> QuerySet[Node]:
    return Node.objects.using(using).select_related("workflow")


def _read(rows: QuerySet[M], ids: Sequence[UUID]) -> Iterator[M]:
    """Read the rows in the order of the ids, without those that were deleted."""
    for some in batched(ids, BATCH):
        found = rows.in_bulk(some)
        yield from (found[pk] for pk in some if pk in found)
