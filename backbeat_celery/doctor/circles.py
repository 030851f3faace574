"""Links that close a circle: found among workflows first, then followed node by node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from backbeat_celery.doctor.checks import Finding
from backbeat_celery.explain import name_circle
from backbeat_celery.models import Link
from backbeat_celery.waiting import find_circle

Pair = tuple[UUID, UUID]


def circles(using: str, most: int) -> Iterator[Finding]:
    """Find circles of nodes that wait for each other."""
    edges = _edges(using)
    suspects = {pk for pk in edges if _comes_back(pk, edges)}
    known: set[frozenset[UUID]] = set()
    sources = _open_links(using).filter(source__workflow_id__in=suspects)
    for source_id in sources.values_list("source_id", flat=True).distinct().iterator():
        circle = find_circle(source_id, using)
        if not circle or frozenset(circle) in known:
            continue
        known.add(frozenset(circle))
        yield Finding("circle", 5, f"{len(circle)} nodes", name_circle(circle, using))
        if len(known) >= most:
            return


def _edges(using: str) -> dict[UUID, set[UUID]]:
    """Which workflow waits for which; a workflow that waits for nobody closes no circle."""
    onward = Link.objects.filter(
        source__workflow_id=OuterRef("target__workflow_id"),
        source__finished_at=None,
        target__finished_at=None,
    )
    rows = _open_links(using).filter(Exists(onward))
    pairs = rows.values_list("source__workflow_id", "target__workflow_id").distinct()
    edges: dict[UUID, set[UUID]] = defaultdict(set)
    for source, target in pairs.iterator():
        edges[source].add(target)
    return edges


def _comes_back(start: UUID, edges: dict[UUID, set[UUID]]) -> bool:
    seen: set[UUID] = set()
    ahead = list(edges[start])
    while ahead:
        workflow = ahead.pop()
        if workflow == start:
            return True
        if workflow not in seen:
            seen.add(workflow)
            ahead += edges.get(workflow, ())
    return False


def _open_links(using: str) -> QuerySet[Link]:
    links = Link.objects.using(using)
    return links.filter(source__finished_at=None, target__finished_at=None)
