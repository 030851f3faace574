"""Delete what has been finished for longer than the retention, while the engine runs.

Finished workflows are purged with all their nodes; in open workflows, signals whose whole tree is
finished. Short transactions delete the leaves first. A purge that is killed leaves a finished
tree without some of its leaves, which the next purge deletes. docs/operating.md says what is
kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from uuid import UUID

from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from backbeat_celery.conf import settings
from backbeat_celery.models import Link, Node, Workflow, node_alias
from backbeat_celery.models.lineage import lineage
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.retention.deletion import (
    BATCH,
    PurgeCounts,
    delete_nodes,
    delete_workflow_rows,
    delete_workflows,
    related_rows,
    subtree_pages,
)
from backbeat_celery.runtime import clock, failpoints
from backbeat_celery.runtime.ids import FIRST
from backbeat_celery.runtime.transactions import repeat

__all__ = ["PurgeCounts", "delete_workflow_rows", "purge"]

logger = logging.getLogger(__name__)
DAY, HOUR = 86400, 3600

Progress = Callable[[PurgeCounts], None]


def purge(
    using: str | None = None,
    *,
    days: float | None = None,
    batch: int = BATCH,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> PurgeCounts:
    """Delete what has been finished for more than `days`, by default RETENTION.

    Deletes at most `batch` nodes in a transaction. `dry_run` only counts. `on_progress` is
    called after each step with the counts so far.
    """
    days = settings.retention if days is None else days
    run = _Purge(using or node_alias(), days, batch, dry_run, on_progress)
    run.purge_workflows()
    run.purge_signals()
    if run.counts and not dry_run:
        logger.info("Purged %s: %s", run.using, run.counts)
    return run.counts


def tops_to_purge(using: str, days: float | None = None) -> int:
    """Estimate how many workflows and signals a purge deletes, for a progress bar."""
    days = settings.retention if days is None else days
    old = Q(finished_at__lt=clock.after(-days * DAY))
    workflows = Workflow.objects.using(using)
    signals = Node.objects.using(using).filter(old, parent_id=F("workflow_id"))
    unfinished = workflows.filter(unfinished=True).values("pk")
    return (
        workflows.filter(old, unfinished=None).count()
        + signals.filter(workflow_id__in=unfinished).count()
    )


class _Purge:
    """One pass over one database."""

    def __init__(
        self, using: str, days: float, batch: int, dry_run: bool, progress: Progress | None
    ) -> None:
        self.using = using
        self.counts = PurgeCounts()
        self._days = days
        self._batch = max(1, batch)
        self._skips = connections[using].features.has_select_for_update_skip_locked
        self._is_dry = dry_run
        self._progress = progress
        self._late = Q(finished_at=None) | Q(finished_at__gte=clock.after(-days * DAY))
        self._old = Q(finished_at__lt=clock.after(-days * DAY))
        young = clock.after(-settings.key_retention * DAY)
        self._has_young_key = Q(key__isnull=False, created_at__gte=young)

    @property
    def _nodes(self) -> NodeQuerySet:
        return Node.objects.using(self.using)

    # Finished workflows -----------------------------------------------------------------

    def purge_workflows(self) -> None:
        """Purge finished workflows in batches."""
        late = Node.objects.filter(self._late, workflow=OuterRef("pk"))
        signals = Node.objects.filter(self._has_young_key, parent_id=OuterRef("pk"))
        rows = Workflow.objects.using(self.using).filter(self._old, unfinished=None)
        rows = rows.filter(~Exists(late), ~Exists(signals)).order_by("pk")
        last = FIRST
        while ids := list(rows.filter(pk__gt=last).values_list("pk", flat=True)[: self._batch]):
            last = ids[-1]
            linked = set(
                self._live_links()
                .filter(target__workflow_id__in=ids)
                .values_list("target__workflow_id", flat=True)
            )
            self._remove([pk for pk in ids if pk not in linked], are_workflows=True)

    # Signals of open workflows ----------------------------------------------------------

    def purge_signals(self) -> None:
        """Purge the finished signals of unfinished workflows."""
        rows = Workflow.objects.using(self.using).filter(unfinished=True).order_by("pk")
        last = FIRST
        while ids := list(rows.filter(pk__gt=last).values_list("pk", flat=True)[: self._batch]):
            last = ids[-1]
            busy = self._busy_signals(ids)
            for page in self._finished_signals(ids):
                linked = set(self._linked(page))
                self._remove([pk for pk in page if pk not in busy and pk not in linked])

    def _finished_signals(self, workflow_ids: Sequence[UUID]) -> Iterator[list[UUID]]:
        rows = self._nodes.filter(self._old, parent_id__in=workflow_ids)
        rows = rows.exclude(self._has_young_key).order_by("pk")
        last = FIRST
        while page := list(rows.filter(pk__gt=last).values_list("pk", flat=True)[: self._batch]):
            last = page[-1]
            yield page

    def _busy_signals(self, workflow_ids: Sequence[UUID]) -> set[UUID]:
        """Find finished signals with a node below them that is unfinished, or finished too late.

        Fire-and-forget children and rescues may finish after their ancestors.
        """
        late = self._nodes.filter(self._late, workflow_id__in=workflow_ids)
        # The topmost of them has a parent that is old, or will be soon: others are not read.
        soon = clock.after(HOUR - self._days * DAY)
        above = late.filter(parent__finished_at__lt=soon).values_list("parent_id", flat=True)
        known = lineage({pk for pk in above.distinct() if pk}, self.using)
        return {pk for pk, node in known.items() if node.parent_id == node.workflow_id}

    # Both -------------------------------------------------------------------------------

    def _live_links(self) -> QuerySet[Link]:
        """Links of nodes that may still check what they waited for."""
        live = Q(source__finished_at=None) | Q(source__workflow__unfinished=True)
        return Link.objects.using(self.using).filter(live)

    def _linked(self, ids: Collection[UUID]) -> Iterable[UUID]:
        return self._live_links().filter(target__in=ids).values_list("target_id", flat=True)

    def _remove(self, tops: list[UUID], *, are_workflows: bool = False) -> None:
        """Delete everything below `tops`, then these themselves."""
        if not tops:
            return
        for page in subtree_pages(tops, self.using, self._batch):
            self._remove_page(page)
        self._remove_page(tops, are_workflows=are_workflows, are_signals=not are_workflows)

    def _remove_page(
        self, ids: list[UUID], *, are_workflows: bool = False, are_signals: bool = False
    ) -> None:
        counts = repeat(lambda: self._once(ids, are_workflows, are_signals), using=self.using)
        self.counts += counts
        if self._progress is not None:
            self._progress(self.counts)

    def _once(self, ids: Sequence[UUID], are_workflows: bool, are_signals: bool) -> PurgeCounts:
        if self._is_dry:
            counts = PurgeCounts(
                **{k: v.count() for k, v in related_rows(ids, self.using).items()}
            )
            counts.workflows = len(ids) if are_workflows else 0
            counts.signals = len(ids) if are_signals else 0
            return counts
        with transaction.atomic(using=self.using):
            if are_workflows:
                ids = self._lock_workflows(ids)
            elif are_signals:
                ids = self._lock_lines(ids)
            free = self._lock(ids)
            failpoints.hit("purging")
            counts = delete_nodes(free, self.using)
            counts.signals = len(free) if are_signals else 0
            counts.workflows = delete_workflows(free, self.using) if are_workflows else 0
        return counts

    def _lock_lines(self, ids: Sequence[UUID]) -> list[UUID]:
        """Lock the roots of signals, as signals and links do; skip rows that are locked.

        It does not wait for locks, so that no deadlock reaches a user's transaction.
        """
        roots = dict(self._nodes.filter(pk__in=ids).values_list("pk", "parent_id"))
        rows = self._nodes.filter(pk__in=set(roots.values()))
        free = set(rows.select_for_update(skip_locked=self._skips).values_list("pk", flat=True))
        return [pk for pk in ids if roots.get(pk) in free]

    def _lock_workflows(self, ids: Sequence[UUID]) -> list[UUID]:
        """Lock workflows before their nodes, as the verbs do; skip rows that are locked."""
        rows = Workflow.objects.using(self.using).filter(self._old, pk__in=ids).order_by("pk")
        locked = rows.select_for_update(skip_locked=self._skips)
        return list(locked.values_list("pk", flat=True))

    def _lock(self, ids: Sequence[UUID]) -> list[UUID]:
        """Lock nodes; leave out those that are locked, linked to, or have other children.

        The lock prevents new links, so links are read after it.
        """
        rows = self._nodes.filter(self._old, pk__in=ids)
        rows = rows.select_for_update(skip_locked=self._skips)
        locked = list(rows.order_by("pk").values_list("pk", flat=True))
        kept = self._with_those_above(set(self._linked(locked)), set(locked))
        return [pk for pk in locked if pk not in kept]

    def _with_those_above(self, kept: set[UUID], locked: set[UUID]) -> set[UUID]:
        """Give the locked nodes that are kept, with all locked nodes above these or others."""
        children = self._nodes.filter(parent_id__in=locked).values_list("pk", "parent_id")
        above = dict(children)
        ahead = [pk for pk in above if pk in kept or pk not in locked]
        while ahead:
            parent = above[ahead.pop()]
            if parent not in kept:
                kept.add(parent)
                ahead += [parent] if parent in above else []
        return kept
