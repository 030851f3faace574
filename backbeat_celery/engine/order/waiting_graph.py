"""What waits for what: the rule for each kind of waiting, and cycles among workflows.

A node waits for its children that count, a ready one for the siblings ahead of it, and a linked
one for signals of other workflows. Only links lead out of a workflow, so only nodes with a link
and those above them are read: the others of a line, however long it is, lead nowhere.

Only links can close a cycle, and only two that are made at once: each transaction looks for a
cycle before it writes a link, and cannot see what the other has not committed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from django.db.models import OuterRef, QuerySet

from backbeat_celery.models import Link, Node
from backbeat_celery.models.lineage import lineage
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime.batches import batched
from backbeat_celery.states import Status

AT_ONCE = 500
"""Ids named in one statement."""

Carrier = tuple[int, UUID]
"""A place in a line, and the node there, which waits for another workflow."""

Stop = tuple[UUID, bool, int]
"""A position on a line: the parent, whether only blocking carriers count, the index of one."""

Vertex = UUID | Stop


def siblings_ahead(
    parent: UUID | OuterRef, seq: int | OuterRef, *, barrier: bool, using: str | None = None
) -> NodeQuerySet:
    """Give the unfinished siblings that a ready child at `seq` waits for.

    A barrier waits for every sibling before it that counts, any other child for the blocking ones.
    """
    ahead = Node.objects.using(using).awaited_by(parent).filter(seq__lt=seq)
    # All awaited siblings count, but the mode is before seq in the index.
    return ahead.counting() if barrier else ahead.blocking()


def linked_signals(source: UUID, using: str) -> NodeQuerySet:
    """Give the unfinished signals of other workflows that a node waits for by links.

    The links are read first: a join may be answered from all unfinished nodes.
    """
    links = Link.objects.using(using).filter(source_id=source, settled=False)
    targets = [pk for (pk,) in links.values_list("target_id")]
    return Node.objects.using(using).filter(pk__in=targets).unfinished()


def open_links(using: str | None = None) -> QuerySet[Link]:
    """Give the links whose signals are unfinished."""
    return Link.objects.using(using).filter(target__finished_at=None)


def waits_for(node: Node, other: Node, using: str) -> bool:
    """Whether `node` waits for `other`, as far as it is committed; a node waits for itself."""
    graph = _Graph(using, sought=other)
    return any(reached == other.pk for reached in graph.reached_from([node]))


def find_cycle(start: UUID, using: str) -> list[UUID]:
    """Find nodes that wait for each other among what `start` waits for; empty if there are none.

    A cycle is given as the ends of its links.
    """
    return next(find_cycles([start], using), [])


def find_cycles(starts: Sequence[UUID], using: str) -> Iterator[list[UUID]]:
    """Find cycles among what these nodes wait for: at least one of those that are connected."""
    graph = _Graph(using)
    nodes = lineage(starts, using, "awaited_by", levels=1)
    for _ in graph.reached_from(nodes.values()):
        pass
    yield from graph.cycles(nodes)


class _Graph:
    """The part of the waiting graph that leads to links, and to one node that has none yet."""

    def __init__(self, using: str, sought: Node | None = None) -> None:
        self._using = using
        self._sought = sought
        self._nodes: dict[UUID, Node] = {}
        self._loaded: set[UUID] = set()
        self._ways: dict[UUID, list[UUID]] = defaultdict(list)
        """Ways down to a child that waits for another workflow, and along a link."""
        self._targets: set[UUID] = set()
        self._sources: set[UUID] = set()
        self._counting: dict[UUID, list[Carrier]] = defaultdict(list)
        self._blocking: dict[UUID, list[Carrier]] = defaultdict(list)
        self._barriers: dict[UUID, list[int]] = defaultdict(list)

    def reached_from(self, starts: Iterable[Node]) -> Iterator[UUID]:
        """Give the nodes that these wait for, themselves first."""
        self._nodes.update((node.pk, node) for node in starts)
        ahead: list[Vertex] = list(self._nodes)
        seen: set[Vertex] = set(ahead)
        while ahead:
            self._load(ahead)
            strangers: list[Vertex] = []
            while ahead:
                vertex = ahead.pop()
                if isinstance(vertex, UUID):
                    if self._nodes[vertex].workflow_id not in self._loaded:
                        strangers.append(vertex)
                        continue
                    yield vertex
                fresh = [found for found in self._ways_from(vertex) if found not in seen]
                seen.update(fresh)
                ahead += fresh
            ahead = strangers

    def cycles(self, starts: Iterable[UUID]) -> Iterator[list[UUID]]:
        """Walk depth first; an edge to a node of the current path closes a cycle."""
        seen: set[Vertex] = set()
        for start in starts:
            if start in seen:
                continue
            path: list[Vertex] = [start]
            ways = [self._ways_from(start)]
            on_path: set[Vertex] = {start}
            seen.add(start)
            while path:
                following = next(ways[-1], None)
                if following is None:
                    on_path.discard(path.pop())
                    ways.pop()
                elif following in on_path:
                    yield self._ends_of_links(path[path.index(following) :])
                elif following not in seen:
                    seen.add(following)
                    on_path.add(following)
                    path.append(following)
                    ways.append(self._ways_from(following))

    def _ends_of_links(self, path: Iterable[Vertex]) -> list[UUID]:
        ends = self._sources | self._targets
        return [vertex for vertex in path if isinstance(vertex, UUID) and vertex in ends]

    def _ways_from(self, vertex: Vertex) -> Iterator[Vertex]:
        if isinstance(vertex, UUID):
            yield from self._ways.get(vertex, ())
            yield from self._ways_along(self._nodes[vertex])
        else:
            parent_id, is_blocking, index = vertex
            yield (self._blocking if is_blocking else self._counting)[parent_id][index][1]
            if index:
                yield parent_id, is_blocking, index - 1

    def _ways_along(self, node: Node) -> Iterator[Stop]:
        """Give the positions where a ready node's walk back along its line starts."""
        line = node.parent_id
        if node.status != Status.READY or line is None:
            return
        barriers = self._barriers.get(line, [])
        passed = bisect_left(barriers, node.seq)
        # It waits for blocking siblings, and for what the last barrier before it waits for.
        last = node.seq if node.barrier else barriers[passed - 1] if passed else 0
        for is_blocking, carriers, bound in (
            (True, self._blocking.get(line, []), node.seq),
            (False, self._counting.get(line, []), last),
        ):
            if index := bisect_left(carriers, bound, key=lambda carrier: carrier[0]):
                yield line, is_blocking, index - 1

    # Reads ------------------------------------------------------------------------------

    def _load(self, vertices: Iterable[Vertex]) -> None:
        """Read what leads out of the workflows of these nodes."""
        nodes = (self._nodes[vertex] for vertex in vertices if isinstance(vertex, UUID))
        fresh = {node.workflow_id for node in nodes} - self._loaded
        self._loaded |= fresh
        links = self._links(fresh)
        self._sources.update(source for source, _ in links)
        self._targets.update(target for _, target in links)
        for source, target in links:
            self._ways[source].append(target)
        carriers = {source for source, _ in links}
        if self._sought is not None and self._sought.workflow_id in fresh:
            carriers.add(self._sought.pk)
        self._note_barriers(self._note_carriers(lineage(carriers, self._using, "awaited_by")))

    def _links(self, workflow_ids: Iterable[UUID]) -> list[tuple[UUID, UUID]]:
        pairs: list[tuple[UUID, UUID]] = []
        for some in batched(workflow_ids, AT_ONCE):
            links = Link.objects.using(self._using).filter(source__workflow_id__in=some)
            unsettled = links.filter(source__finished_at=None, settled=False)
            pairs += unsettled.values_list("source_id", "target_id")
        targets: dict[UUID, Node] = {}
        for some in batched({target for _, target in pairs}, AT_ONCE):
            rows = Node.objects.using(self._using).filter(pk__in=some).unfinished()
            targets.update((row.pk, row) for row in rows.only(*PLACE))
        for pk, row in targets.items():
            self._nodes.setdefault(pk, row)
        return [(source, target) for source, target in pairs if target in targets]

    def _note_carriers(self, rows: dict[UUID, Node]) -> set[UUID]:
        """Note nodes that wait for another workflow in their lines; give the lines' parents."""
        for row in rows.values():
            self._nodes.setdefault(row.pk, row)
            if row.awaited_by is not None:
                self._ways[row.awaited_by].append(row.pk)
                self._counting[row.awaited_by].append((row.seq, row.pk))
                if row.is_blocking:
                    self._blocking[row.awaited_by].append((row.seq, row.pk))
        lines = {row.awaited_by for row in rows.values() if row.awaited_by is not None}
        for line in lines:
            self._counting[line].sort()
            self._blocking[line].sort()
        return lines

    def _note_barriers(self, lines: Iterable[UUID]) -> None:
        """Note barriers that are held, where something ahead of them would not hold others."""
        mixed = [pk for pk in lines if len(self._counting[pk]) > len(self._blocking[pk])]
        for some in batched(mixed, AT_ONCE):
            children = Node.objects.using(self._using).filter(parent_id__in=some, barrier=True)
            held = children.filter(status=Status.READY).order_by("parent_id", "seq")
            for parent_id, seq in held.values_list("parent_id", "seq"):
                self._barriers[parent_id].append(seq)


PLACE = ("id", "workflow_id", "parent_id", "seq", "barrier", "mode", "status")
