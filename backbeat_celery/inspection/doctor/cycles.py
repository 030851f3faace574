"""Cycles of links: found among workflows first, then followed node by node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from uuid import UUID

from django.db.models import Exists, OuterRef

from backbeat_celery.engine.order.waiting_graph import find_cycles, open_links
from backbeat_celery.inspection.doctor.check import Finding
from backbeat_celery.inspection.explain import describe_cycle
from backbeat_celery.models import Link


def cycle_findings(using: str, most: int) -> Iterator[Finding]:
    """Find nodes that wait for each other in a cycle."""
    suspects = _in_cycles(_edges(using))
    links = open_links(using).filter(source__finished_at=None, source__workflow_id__in=suspects)
    sources = list(links.values_list("source_id", flat=True).distinct())
    known: set[frozenset[UUID]] = set()
    for cycle in find_cycles(sources, using):
        if frozenset(cycle) not in known and len(known) < most:
            known.add(frozenset(cycle))
            yield Finding("cycle", 5, f"{len(cycle)} nodes", describe_cycle(cycle, using))


def _edges(using: str) -> dict[UUID, set[UUID]]:
    """Give which workflow waits for which; one that waits for no other is in no cycle."""
    onward = Link.objects.filter(
        source__workflow_id=OuterRef("target__workflow_id"),
        source__finished_at=None,
        target__finished_at=None,
    )
    rows = open_links(using).filter(Exists(onward), source__finished_at=None)
    pairs = rows.values_list("source__workflow_id", "target__workflow_id").distinct()
    edges: dict[UUID, set[UUID]] = defaultdict(set)
    for source, target in pairs.iterator():
        edges[source].add(target)
    return edges


def _in_cycles(edges: dict[UUID, set[UUID]]) -> set[UUID]:
    """Remove workflows that wait for none of the others until only cycles are left."""
    waiting: dict[UUID, list[UUID]] = defaultdict(list)
    for source, targets in edges.items():
        for target in targets:
            waiting[target].append(source)
    left = {source: len(targets) for source, targets in edges.items()}
    ahead = [pk for pk in waiting if not left.get(pk)]
    while ahead:
        for source in waiting[ahead.pop()]:
            left[source] -= 1
            if not left[source]:
                ahead.append(source)
    return {pk for pk, count in left.items() if count}
