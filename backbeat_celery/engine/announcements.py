"""Tell the log and the project's receivers what has ended, after all that follows from it.

At most once: a process that dies between the commit and this tells nobody. A receiver that
raises is logged by Django and stops nothing. Rows are read only if somebody listens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

from django.db import Error as DatabaseTrouble
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
"""Rows read at once: a thousand flags may be done in one transaction."""


def announce(ended: Announcements, using: str) -> None:
    """Send the signals of what has ended and was committed."""
    log_failures(ended.failed)
    failed = [failure.node_id for failure in ended.failed]
    try:
        if _is_wanted(node_failed, Node, failed):
            for node in _read(_nodes(using), failed):
                _tell(node_failed, using, sender=Node, node=node)
        if _is_wanted(node_completed, Node, ended.completed):
            for node in _read(_nodes(using), ended.completed):
                _tell(node_completed, using, sender=Node, node=node)
        if _is_wanted(workflow_completed, Workflow, ended.workflows):
            for workflow in _read(Workflow.objects.using(using).all(), ended.workflows):
                _tell(workflow_completed, using, sender=Workflow, workflow=workflow)
    except DatabaseTrouble:
        logger.exception("Cannot read what has ended; its receivers are not told.")


def is_wanted(ended: Announcements) -> bool:
    """Tell whether anybody would hear of it. Mostly nobody does, and each node's end asks."""
    return bool(
        ended.failed
        or _is_wanted(node_completed, Node, ended.completed)
        or _is_wanted(workflow_completed, Workflow, ended.workflows)
    )


def _tell(signal: Signal, using: str, **what: Any) -> None:
    with sessions.of_project(using):
        signal.send_robust(**what)


def _is_wanted(signal: Signal, model: type[Model], ids: Sequence[UUID]) -> bool:
    return bool(ids) and signal.has_listeners(model)


def _nodes(using: str) -> QuerySet[Node]:
    return Node.objects.using(using).select_related("workflow")


def _read(rows: QuerySet[M], ids: Sequence[UUID]) -> Iterator[M]:
    """Read the rows in the order of the ids, those that are gone left out."""
    for some in batched(ids, BATCH):
        found = rows.in_bulk(some)
        yield from (found[pk] for pk in some if pk in found)
