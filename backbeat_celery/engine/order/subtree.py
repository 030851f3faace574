"""Walk down a tree, one level at a time: read by each cancel and by its preview."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from backbeat_celery.models import Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime.batches import batched

BATCH = 1000
"""Rows that are locked and written at once."""


def levels_below(
    ids: Iterable[UUID],
    using: str,
    *,
    spare_rescues: bool = False,
    part: int | None = None,
    most: int | None = None,
) -> Iterator[tuple[int, NodeQuerySet]]:
    """Give the children of these nodes, then the children of those, and so on, with their depth.

    Finished nodes are among them: they may have left fire_and_forget children behind. At most
    `part` children are given at once, by default `BATCH`, and nothing below them is read before
    the caller has handled them. `most` limits how many of each part are followed down.
    `spare_rescues` leaves out rescues of the given nodes with their subtrees.
    """
    level = {pk: count for some in batched(ids, BATCH) for pk, count in _widths(some, using)}
    depth = 1
    while level:
        below: dict[UUID, int] = {}
        for children in _families(level, using, part or BATCH):
            if spare_rescues and depth == 1:
                children = children.filter(rescue=False)
            yield depth, children
            parents = children.filter(next_seq__gt=0).values_list("pk", "next_seq")
            below.update(parents[:most])
        level, depth = below, depth + 1


def _widths(ids: Sequence[UUID], using: str) -> Iterable[tuple[UUID, int]]:
    """Count the places for children of these nodes; nodes without children are left out."""
    rows = Node.objects.using(using).filter(pk__in=ids, next_seq__gt=0)
    return rows.values_list("pk", "next_seq")


def _families(parents: Mapping[UUID, int], using: str, part: int) -> Iterator[NodeQuerySet]:
    """Give the children of these nodes in parts of at most `part`, however many one node has."""
    nodes = Node.objects.using(using)
    some: list[UUID] = []
    size = 0
    for pk, width in parents.items():
        if size + width > part and some:
            yield nodes.filter(parent__in=some)
            some, size = [], 0
        if width > part:
            for first in range(0, width, part):
                yield nodes.filter(parent=pk, seq__gte=first, seq__lt=first + part)
        else:
            some.append(pk)
            size += width
    if some:
        yield nodes.filter(parent__in=some)
