"""Find the failed node that keeps another one from going on."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from backbeat_celery.models import Node
from backbeat_celery.models.lineage import lineage
from backbeat_celery.states import Status

MOST = 100
"""Failed nodes of a workflow that are looked at."""


def failed_holder(node: Node) -> Node | None:
    """Give a failed node that an unfinished one waits for; None if there is none.

    It is the node itself, below it, or below something that stands before it in the same signal.
    """
    failed = Node.objects.using(node.alias).unfinished_in(node.workflow_id)
    ids = list(
        failed.filter(status=Status.FAILED).order_by("pk").values_list("pk", flat=True)[:MOST]
    )
    if not ids:
        return None
    known = lineage([node.pk, *ids], node.alias)
    for pk in ids:
        if pk in known and node.pk in known and _holds(known[pk], known[node.pk], known):
            return Node.objects.using(node.alias).get(pk=pk)
    return None


def _holds(failed: Node, held: Node, known: Mapping[UUID, Node]) -> bool:
    below: dict[UUID, Node] = {}
    """The nodes above the held one, each with its child on the way down to it."""
    row = held
    while row.parent_id is not None:
        below[row.parent_id] = row
        row = known[row.parent_id]
    row = failed
    while row.pk != held.pk:
        if row.parent_id is None or not row.counts:
            return False
        if row.parent_id in below:
            other = below[row.parent_id]
            is_signal = row.parent_id == row.workflow_id
            return not is_signal and row.seq < other.seq and (row.is_blocking or other.barrier)
        row = known[row.parent_id]
    return True
