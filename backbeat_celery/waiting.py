"""Who waits for whom: the edges of the waiting graph, and circles in it.

Links alone can close a circle, and only two that are made at once: each transaction looks for
one before it writes a link, and cannot see what the other has not committed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from backbeat_celery.models import Link, Node
from backbeat_celery.states import Mode, Status

MOST = 5000
"""Nodes that a search for a circle visits before it gives up."""


def find_circle(start: UUID, using: str, most: int = MOST) -> list[UUID]:
    """Find nodes that wait for each other among what `start` waits for; empty if there are none.

    Follows children, links and siblings ahead level by level, `most` nodes of them.
    """
    return _circle(start, _Graph(using, most).reached_from(start))


class _Graph:
    """The part of the waiting graph that one node can see."""

    def __init__(self, using: str, most: int) -> None:
        self._using = using
        self._most = most
        self._edges: dict[UUID, list[UUID]] = {}

    def reached_from(self, start: UUID) -> dict[UUID, list[UUID]]:
        """For each node in reach the nodes it waits for."""
        level = {start}
        while level and len(self._edges) < self._most:
            found = self._expand(level)
            level = {pk for pk in found if pk not in self._edges}
        return self._edges

    def _expand(self, level: set[UUID]) -> Iterable[UUID]:
        """Read the edges of a level's nodes; give all nodes that they lead to."""
        self._edges.update({pk: [] for pk in level})
        nodes = Node.objects.using(self._using).filter(pk__in=level).unfinished()
        ready = list(
            nodes.filter(status=Status.READY).values_list("pk", "parent_id", "seq", "barrier")
        )
        lines = self._lines(level | {parent_id for _, parent_id, _, _ in ready if parent_id})
        found: list[UUID] = []
        for pk in level:
            self._edges[pk] += [child for child, _, _ in lines.get(pk, ())]
        for source, target in self._links(level):
            self._edges[source].append(target)
        for pk, parent_id, seq, barrier in ready:
            ahead = [
                s
                for s, place, mode in lines.get(parent_id, ())
                if place < seq and (barrier or mode == Mode.BLOCKING)
            ]
            # The nearest holds it, and is itself held by those before; all are in reach.
            self._edges[pk] += ahead if barrier else ahead[-1:]
            found += ahead
        for pk in level:
            found += self._edges[pk]
        return found

    def _lines(self, parents: set[UUID]) -> dict[UUID, list[tuple[UUID, int, str]]]:
        """The unfinished children that count of each parent, in order."""
        lines: dict[UUID, list[tuple[UUID, int, str]]] = defaultdict(list)
        rows = Node.objects.using(self._using).filter(awaited_by__in=parents).order_by("seq")
        found = rows.values_list("awaited_by", "pk", "seq", "mode")[: self._most]
        for parent_id, pk, seq, mode in found:
            lines[parent_id].append((pk, seq, mode))  # type: ignore[index]
        return lines

    def _links(self, sources: set[UUID]) -> list[tuple[UUID, UUID]]:
        links = Link.objects.using(self._using).filter(
            source__in=sources, source__finished_at=None, target__finished_at=None
        )
        return list(links.values_list("source_id", "target_id"))


def _circle(start: UUID, edges: dict[UUID, list[UUID]]) -> list[UUID]:
    """Walk depth first; a way back to a node of the present path closes a circle."""
    path: list[UUID] = [start]
    ways: list[Iterator[UUID]] = [iter(edges.get(start, ()))]
    on_path, seen = {start}, {start}
    while path:
        following = next(ways[-1], None)
        if following is None:
            on_path.discard(path.pop())
            ways.pop()
        elif following in on_path:
            return path[path.index(following) :]
        elif following not in seen:
            seen.add(following)
            on_path.add(following)
            path.append(following)
            ways.append(iter(edges.get(following, ())))
    return []
