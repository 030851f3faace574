"""Links: a node that waits for a signal of another workflow."""

from __future__ import annotations

from itertools import chain, repeat
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import F

from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.waiting_graph import waits_for
from backbeat_celery.exceptions import BadInput, InvalidTransition, LinkCycle
from backbeat_celery.models import Link, Node
from backbeat_celery.models.transitions import RowDeleted
from backbeat_celery.runtime.text import quote

GROWING = (10, 100, 1000)
"""Links that are read at once while the signals of those before are finished."""


def link(source_id: UUID, target: Node, using: str) -> None:
    """Let the node `source_id` wait for `target`, in the caller's transaction.

    Raises InvalidTransition if the node is finished, LinkCycle if they would wait for each other.
    """
    try:
        if not isinstance(source_id, (UUID, str)):
            raise TypeError(type(source_id).__name__)
        source, _ = lock_node(source_id, using)
    except (RowDeleted, ValidationError, TypeError, ValueError) as exc:
        raise BadInput(f"link is a node or its id, and {quote(source_id)} names none.") from exc
    if target.is_finished or Link.objects.using(using).filter(source=source, target=target):
        return  # a repeated signal with the same key
    if source.is_finished:
        raise InvalidTransition(source.status, "link", source.pk, "It waits for nothing any more.")
    if source.is_flag:
        raise BadInput(f"{source.name} is a flag, done at its time; link a node that has a task.")
    _refuse_cycle(source, target, using)
    Link.objects.using(using).create(source=source, target=target)
    # The look and the record of the source are guarded by this counter.
    Node.objects.using(using).filter(pk=source.pk).update(next_seq=F("next_seq") + 1)


def has_open_link(node: Node, *, settle: bool = False) -> bool:
    """Tell whether a node still waits for a signal of another workflow.

    `settle` notes of links that their signals are finished, so that the next look passes over
    them: a node that waits for many is looked at at the end of each.

    Two plain reads rather than a join, which PostgreSQL may begin at the wrong end: with all
    unfinished nodes of the table.
    """
    using, last, finished = node.alias, 0, []
    unsettled = Link.objects.using(using).filter(source_id=node.pk, settled=False).order_by("pk")
    for size in chain(GROWING, repeat(GROWING[-1])):
        links = dict(unsettled.filter(pk__gt=last).values_list("pk", "target_id")[:size])
        targets = Node.objects.using(using).filter(pk__in=list(links.values())).unfinished()
        is_open = set(targets.values_list("pk", flat=True)) if links else set()
        finished += [pk for pk, target in links.items() if target not in is_open]
        if is_open:
            break
        if len(links) < size:
            return False
        last = max(links)
    if settle and finished:
        Link.objects.using(using).filter(pk__in=finished).update(settled=True)
    return True


def _refuse_cycle(source: Node, target: Node, using: str) -> None:
    """Refuse what is committed; two links that are made at once are found by the doctor."""
    if waits_for(target, source, using):
        raise LinkCycle(
            f"Node {source.pk} cannot wait for {target.name} {target.pk}, which itself waits "
            f"for that node. Signal without link, or signal another workflow."
        )
