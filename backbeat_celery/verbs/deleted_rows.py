"""Rows that are deleted while a verb works on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db.models import Model

from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models.transitions import RowDeleted
from backbeat_celery.runtime import failpoints

WHY = "Its workflow was deleted, or it was purged."


@contextmanager
def unless_deleted(verb: str, pk: UUID) -> Iterator[None]:
    """Raise InvalidTransition if a node, or a workflow's root, was deleted."""
    try:
        yield
    except RowDeleted:
        raise InvalidTransition("deleted", verb, pk, WHY) from None


def reread(row: Model) -> None:
    """Reload a row after the commit; one that was deleted meanwhile is left unchanged."""
    failpoints.hit("verb_done")
    try:
        row.refresh_from_db()
    except type(row).DoesNotExist:  # type: ignore[attr-defined]
        return
