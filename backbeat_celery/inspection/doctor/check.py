"""A check: a query for the rows that break a rule, and how to repair one if that is possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.models import Attempt, Node, Transition, Workflow
from backbeat_celery.models.querysets import NodeQuerySet

R = TypeVar("R", bound=QuerySet[Any])
SLICE = 20_000
"""Nodes that one statement of a check looks at."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the tables: what belongs to the nodes after `first` up to `last`.

    The slices of a database cover every possible id, also those of deleted rows.
    """

    using: str
    first: UUID | None = None
    last: UUID | None = None

    @property
    def nodes(self) -> NodeQuerySet:
        """Nodes by their own ids."""
        return self._within(Node.objects.using(self.using), "pk")

    @property
    def families(self) -> NodeQuerySet:
        """Nodes by their parents' ids: all children of a parent are in the same slice."""
        children = Node.objects.using(self.using).filter(parent__isnull=False)
        return self._within(children, "parent_id")

    @property
    def transitions(self) -> QuerySet[Transition]:
        return self._within(Transition.objects.using(self.using), "node_id")

    @property
    def attempts(self) -> QuerySet[Attempt]:
        return self._within(Attempt.objects.using(self.using), "node_id")

    @property
    def workflows(self) -> QuerySet[Workflow]:
        return self._within(Workflow.objects.using(self.using).all(), "pk")

    def _within(self, rows: R, field: str) -> R:
        if self.first is not None:
            rows = rows.filter(**{f"{field}__gt": self.first})
        if self.last is not None:
            rows = rows.filter(**{f"{field}__lte": self.last})
        return rows


def slices(using: str, size: int = SLICE) -> Iterator[Slice]:
    """Cut the tables into slices of `size` nodes each."""
    first: UUID | None = None
    ids = Node.objects.using(using).order_by("pk").values_list("pk", flat=True)
    while True:
        after = ids if first is None else ids.filter(pk__gt=first)
        last = next(iter(after[size - 1 : size]), None)
        yield Slice(using, first, last)
        if last is None:
            return
        first = last


@dataclass(frozen=True, slots=True)
class Check:
    """A rule, the rows that break it, and what to do about them."""

    name: str
    invariant: int | None
    """The number of the invariant in docs/operating.md, if it is one of them."""
    problem: str
    find: Callable[[Slice], QuerySet[Any]]
    advice: str = ""
    repair: Callable[[Any], AfterCommit | None] | None = None
    """Repairs a row that the caller has locked and checked again."""
    is_transient: bool = False
    """Whether the sweeper repairs it by itself, so that only what remains is broken."""


@dataclass(slots=True)
class Finding:
    """One row that breaks a rule."""

    check: str
    invariant: int | None
    subject: str
    problem: str
    advice: str = ""
    is_serious: bool = True
    is_fixed: bool = False

    def __str__(self) -> str:
        text = f"{self.check}: {self.subject} {self.problem}"
        if self.is_fixed:
            return f"{text} (fixed)"
        return f"{text}. {self.advice}" if self.advice else text


def subject_of(row: Model) -> str:
    """Name a row so that it can be found."""
    if isinstance(row, Node):
        return f"node {row.pk} ({row.name}, {row.status})"
    if isinstance(row, Workflow):
        return f"workflow {row.pk} ({row})"
    return f"{row._meta.verbose_name} {row.pk} of node {vars(row)['node_id']}"


Checks = Sequence[Check]
