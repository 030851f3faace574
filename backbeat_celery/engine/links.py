"""Links: a node that waits for a signal of another workflow."""

from __future__ import annotations

from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import F, Q

from backbeat_celery.engine.finish import lock_node
from backbeat_celery.exceptions import BadInput, InvalidTransition, LinkCycle, shown
from backbeat_celery.models import Link, Node
from backbeat_celery.states import Mode, Status
from backbeat_celery.transitions import RowDeleted


def link(source_id: UUID, target: Node, using: str) -> None:
    """Let the node `source_id` wait for `target`, in the caller's transaction.

    Raises InvalidTransition if the node is finished, LinkCycle if they would wait for each other.
    """
    try:
        if not isinstance(source_id, (UUID, str)):
            raise TypeError(type(source_id).__name__)
        source, _ = lock_node(source_id, using)
    except (RowDeleted, ValidationError, TypeError, ValueError) as exc:
        raise BadInput(f"link is a node or its id, and {shown(source_id)} names none.") from exc
    if target.is_finished or Link.objects.using(using).filter(source=source, target=target):
        return  # a repeated signal with the same key
    if source.is_finished:
        raise InvalidTransition(source.status, "link", source.pk, "It waits for nothing any more.")
    _refuse_cycle(source, target, using)
    Link.objects.using(using).create(source=source, target=target)
    # The look and the record of the source are guarded by this counter.
    Node.objects.using(using).filter(pk=source.pk).update(next_seq=F("next_seq") + 1)


def _refuse_cycle(source: Node, target: Node, using: str) -> None:
    """Follow what `target` waits for, level by level, as far as it is committed."""
    seen = {target.pk}
    level = [target.pk]
    while level:
        if source.pk in seen:
            raise LinkCycle(
                f"Node {source.pk} cannot wait for {target.name} {target.pk}, which itself waits "
                f"for that node. Signal without link, or signal another workflow."
            )
        level = [pk for pk in _waits_for(level, using) if pk not in seen]
        seen.update(level)


def _waits_for(node_ids: list[UUID], using: str) -> set[UUID]:
    nodes = Node.objects.using(using)
    unfinished = nodes.unfinished()
    found = set(nodes.filter(awaited_by__in=node_ids).values_list("pk", flat=True))
    found.update(
        unfinished.filter(incoming_links__source__in=node_ids).values_list("pk", flat=True)
    )
    ready = nodes.filter(pk__in=node_ids, status=Status.READY)
    for parent_id, stage in ready.values_list("parent_id", "stage").distinct():
        ahead = unfinished.filter(Q(mode=Mode.BLOCKING), parent_id=parent_id, stage__lt=stage)
        found.update(ahead.values_list("pk", flat=True))
    return found
