"""Build the messages of a wide stage from its rows after the commit, in batches."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from backbeat_celery.engine.after_commit import AT_ONCE, ChildRange, Publication, publications_due
from backbeat_celery.models import Node
from backbeat_celery.states import Status


def messages_of(child_range: ChildRange, using: str) -> Iterator[list[Publication]]:
    """Give the messages of those children in a range that are not published yet."""
    first = child_range.first
    while rows := _queued(child_range.parent_id, first, child_range.last, using):
        yield publications_due(rows, rows[0].db_now)
        first = rows[-1].seq + 1


def _queued(parent_id: UUID, first: int, last: int, using: str) -> list[Node]:
    children = Node.objects.using(using).children_of(parent_id)
    queued = children.filter(status=Status.QUEUED, publish_count=0, seq__range=(first, last))
    rows = queued.exclude(task="").defer("result", "error", "metadata").with_time()
    return list(rows.order_by("seq")[:AT_ONCE])
