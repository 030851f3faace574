"""Delete nodes with their history, attempts and links, children before parents, page by page.

History and attempts have no foreign key in the database, so they are deleted explicitly. MySQL
checks the foreign key from child to parent row by row: a parent cannot be deleted first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Model, Q, QuerySet

from backbeat_celery.models import Attempt, Link, Node, Transition, Workflow
from backbeat_celery.runtime.batches import batched
from backbeat_celery.runtime.compat.django import delete_rows

BATCH = 500
"""Nodes deleted in one transaction."""


@dataclass(slots=True)
class PurgeCounts:
    """How many rows were deleted, or would be."""

    workflows: int = 0
    signals: int = 0
    nodes: int = 0
    transitions: int = 0
    attempts: int = 0
    links: int = 0

    def __iadd__(self, other: PurgeCounts) -> PurgeCounts:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self

    def __bool__(self) -> bool:
        return self.total > 0

    @property
    def total(self) -> int:
        """The number of rows; signals are included in nodes."""
        return sum(self.by_model().values())

    def by_model(self) -> dict[str, int]:
        """The number of rows of each model, by the labels that Django's `delete()` uses."""
        counts = {
            Workflow: self.workflows,
            Node: self.nodes,
            Transition: self.transitions,
            Attempt: self.attempts,
            Link: self.links,
        }
        return {model._meta.label: count for model, count in counts.items() if count}


def subtree_pages(tops: Sequence[UUID], using: str, size: int = BATCH) -> Iterator[list[UUID]]:
    """Give the ids of all nodes below `tops` in pages, children before their parents.

    Each page may be deleted when it is given; a page may contain a parent with its children.
    Memory holds one page for each level, and a deep tree takes one statement for each level.
    """
    levels: list[tuple[list[UUID], Iterator[list[UUID]]]] = [([], _children(tops, using, size))]
    ready: list[UUID] = []
    while levels:
        page = next(levels[-1][1], None)
        if page is not None:
            levels.append((page, _children(page, using, size)))
            continue
        done, _ = levels.pop()
        if len(ready) + len(done) > size:
            yield ready
            ready = []
        ready += done
    if ready:
        yield ready


def _children(parents: Sequence[UUID], using: str, size: int) -> Iterator[list[UUID]]:
    for chunk in batched(parents, size):
        rows = Node.objects.using(using).filter(parent_id__in=chunk).order_by("pk")
        ids = rows.values_list("pk", flat=True)
        page = list(ids[:size])
        while page:
            yield page
            page = list(ids.filter(pk__gt=page[-1])[:size]) if len(page) == size else []


def related_rows(ids: Collection[UUID], using: str) -> dict[str, QuerySet[Any]]:
    """Give the rows of nodes in each table, by the names of `PurgeCounts`, in deletion order."""
    at_an_end = Q(source__in=ids) | Q(target__in=ids)
    return {
        "transitions": Transition.objects.using(using).filter(node_id__in=ids),
        "attempts": Attempt.objects.using(using).filter(node_id__in=ids),
        "links": Link.objects.using(using).filter(at_an_end),
        "nodes": Node.objects.using(using).filter(pk__in=ids),
    }


def delete_nodes(ids: Collection[UUID], using: str) -> PurgeCounts:
    """Delete nodes and their related rows in the caller's transaction; `ids` has all children."""
    if not ids:
        return PurgeCounts()
    if not connections[using].features.can_defer_constraint_checks:
        nodes = Node.objects.using(using).filter(pk__in=ids, parent__in=ids)
        nodes.update(parent=None)  # MySQL checks the foreign key row by row
    return PurgeCounts(
        **{name: _delete(rows, using) for name, rows in related_rows(ids, using).items()}
    )


def delete_workflow_rows(workflow_ids: Sequence[UUID], using: str) -> PurgeCounts:
    """Delete workflows with all their nodes in one transaction, whatever their statuses.

    The caller makes sure that no worker runs them and no node waits for them.
    """
    counts = PurgeCounts()
    with transaction.atomic(using=using):
        for page in subtree_pages(workflow_ids, using):
            counts += delete_nodes(page, using)
        counts += delete_nodes(workflow_ids, using)
        rows = Workflow.objects.using(using).filter(pk__in=workflow_ids)
        counts.workflows = _delete(rows, using)
    return counts


def delete_workflows(ids: Collection[UUID], using: str) -> int:
    """Delete rows of workflows whose nodes are gone, in the caller's transaction."""
    return _delete(Workflow.objects.using(using).filter(pk__in=ids), using) if ids else 0


def _delete(rows: QuerySet[Model], using: str) -> int:
    # One statement: Django's cascade would read every row first.
    return delete_rows(rows, using)
