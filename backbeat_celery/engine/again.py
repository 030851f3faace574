"""What is left to do after a commit that was done, but whose answer was lost."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Q

from backbeat_celery.engine.wake import Wake, publications_due
from backbeat_celery.models import Node


def wake_again(node_id: UUID, using: str, *, only_barriers: bool = False) -> Wake:
    """Find in the rows what a step that ended a node, or its attempt, has made due.

    Some of it may have been done since: messages that are doubled are dropped by the claim.
    `only_barriers` leaves out other children, for a step that cannot have queued them.
    """
    wake = Wake()
    nodes = Node.objects.using(using)
    row = nodes.filter(pk=node_id).without_payload().with_time().first()
    if row is None:
        return wake
    children = Q(parent_id=row.pk, barrier=True) if only_barriers else Q(parent_id=row.pk)
    opened = Q(pk=row.pk) | children
    if row.is_finished:
        wake.ended(row)
        if row.is_blocking:
            opened |= Q(parent_id=row.parent_id, seq__gt=row.seq)
    elif not only_barriers:
        wake.look_at.append(row.pk)
    due = nodes.claimable().filter(opened, publications=0).exclude(task="")
    wake.publications = publications_due(due.defer("result", "error", "metadata"), row.db_now)
    return wake
