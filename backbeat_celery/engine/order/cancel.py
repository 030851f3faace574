"""Cancel nodes and what is below them, from the top down: the engine's side of several verbs.

A level is canceled before the level below is read, in a new statement. So children that a
handler recorded meanwhile are seen, and a handler whose node is canceled records none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.turns import open_behind
from backbeat_celery.models import Attempt, Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.models.transitions import transition_all
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.batches import batched
from backbeat_celery.runtime.lock_timeouts import step
from backbeat_celery.states import AttemptOutcome, Status

BATCH = 1000
"""Rows that are locked and written at once."""


Top = tuple[UUID, UUID]
"""A node that is canceled with all below it, and its parent: ids, since there may be many."""


def cancel_trees(
    tops: Iterable[Top], using: str, *, actor: str, reason: str, opens: bool = True
) -> AfterCommit:
    """Cancel nodes with all that is below them, in the caller's transaction.

    Of nodes below one another name only the topmost. Those that are finished by now are
    spared, what they have left running is not. `opens`: what stood behind them gets its turn.
    """
    families: dict[UUID, list[UUID]] = defaultdict(list)
    for pk, parent_id in tops:
        families[parent_id].append(pk)
    after_commit = AfterCommit()
    for parent_id in _from_the_top(families, using):
        after_commit += _cancel_siblings(
            parent_id, families[parent_id], using, actor, reason, opens
        )
    return after_commit


def _from_the_top(ids: Collection[UUID], using: str) -> Sequence[UUID]:
    """Order nodes so that ancestors are locked before descendants.

    Their ids tell nothing of it: each is made by the clock of the machine that sent the node.
    """
    if len(ids) < 2:
        return list(ids)
    parents: dict[UUID, UUID | None] = {}
    unknown = set(ids)
    while unknown:
        parents.update(dict.fromkeys(unknown))
        for some in batched(unknown, BATCH):
            rows = Node.objects.using(using).filter(pk__in=some)
            parents.update(rows.values_list("pk", "parent_id"))
        unknown = {pk for pk in parents.values() if pk is not None} - parents.keys()
    depths = _depths(parents)
    return sorted(ids, key=lambda pk: (depths[pk], pk))


def _depths(parents: Mapping[UUID, UUID | None]) -> Mapping[UUID, int]:
    """Tell how many nodes are above each, which are all among them."""
    depths: dict[UUID, int] = {}
    for pk in parents:
        path: list[UUID] = []
        above: UUID | None = pk
        while above is not None and above not in depths:
            path.append(above)
            above = parents[above]
        depth = -1 if above is None else depths[above]
        depths.update((below, depth + n) for n, below in enumerate(reversed(path), start=1))
    return depths


def _cancel_siblings(
    parent_id: UUID, ids: Sequence[UUID], using: str, actor: str, reason: str, opens: bool
) -> AfterCommit:
    after_commit, blocking = AfterCommit(), []
    parent, now = lock_node(parent_id, using)
    for some in batched(ids, BATCH):
        rows = list(_locked(Node.objects.using(using).filter(pk__in=some)))
        cancel_rows(rows, actor=actor, reason=reason)
        for row in rows:
            after_commit.ended(row)
        blocking += [row.seq for row in rows if row.is_blocking][:1]
    after_commit.maybe_complete = list(dict.fromkeys(after_commit.maybe_complete))
    cancel_below(ids, using, actor=actor, reason="a node above was canceled")
    if blocking and opens:
        after_commit += open_behind(parent, min(blocking), now)
    return after_commit


def cancel_below(
    ids: Iterable[UUID],
    using: str,
    *,
    actor: str,
    reason: str,
    spare_rescues: bool = False,
    release_keys: bool = False,
) -> None:
    """Cancel all that is below these nodes, whose rows the caller has locked.

    `release_keys` lets later children of these nodes use their children's keys again;
    `spare_rescues` leaves out rescues of these nodes, with what is below them.
    """
    level = {pk: count for some in batched(ids, BATCH) for pk, count in _widths(some, using)}
    values: dict[str, Any] = {"key": None} if release_keys else {}
    while level:
        below: dict[UUID, int] = {}
        for children in _families(level, using):
            if spare_rescues:
                children = children.filter(rescue=False)
            cancel_rows(list(_locked(children)), actor=actor, reason=reason, **values)
            # Finished ones, too: they may have left fire_and_forget children behind.
            failpoints.hit("level_canceled")
            below.update(children.filter(next_seq__gt=0).values_list("pk", "next_seq"))
        level, spare_rescues, values = below, False, {}


def _widths(ids: Sequence[UUID], using: str) -> Iterable[tuple[UUID, int]]:
    """How many places for children these nodes have, those without any left out."""
    rows = Node.objects.using(using).filter(pk__in=ids, next_seq__gt=0)
    return rows.values_list("pk", "next_seq")


def _families(parents: Mapping[UUID, int], using: str) -> Iterator[NodeQuerySet]:
    """The children of these nodes in parts of at most BATCH, whatever the width of each."""
    nodes = Node.objects.using(using)
    some: list[UUID] = []
    size = 0
    for pk, width in parents.items():
        if size + width > BATCH and some:
            yield nodes.filter(parent__in=some)
            some, size = [], 0
        if width > BATCH:
            for first in range(0, width, BATCH):
                yield nodes.filter(parent=pk, seq__gte=first, seq__lt=first + BATCH)
        else:
            some.append(pk)
            size += width
    if some:
        yield nodes.filter(parent__in=some)


def cancel_rows(rows: Sequence[Node], *, actor: str = "", reason: str = "", **values: Any) -> None:
    """Cancel unfinished nodes whose rows the caller has locked, and the attempts they run."""
    groups: dict[str, list[Node]] = defaultdict(list)
    for row in rows:
        groups[row.status].append(row)
    for status, group in groups.items():
        running = [Attempt.running(row) for row in group if status == Status.RUNNING]
        transition_all(group, Status.CANCELED, actor=actor, reason=reason, **values)
        if running:
            rows_of_attempts = [attempt.ended(AttemptOutcome.CANCELED) for attempt in running]
            Attempt.objects.using(group[0].alias).bulk_create(rows_of_attempts)


def cancel_orphan(node: Node) -> AfterCommit:
    """Cancel one node whose parent is canceled already; what is below it comes next."""
    after_commit = AfterCommit()
    with step(node.alias):
        rows = list(_locked(Node.objects.using(node.alias).filter(pk=node.pk)))
        cancel_rows(rows, reason="a node above was canceled")
    after_commit.ended(node)
    return after_commit


def topmost(rows: Iterable[Top]) -> list[Top]:
    """Those of the nodes whose parents are not among them."""
    parents = dict(rows)
    return [(pk, above) for pk, above in parents.items() if above not in parents]


def _locked(rows: NodeQuerySet) -> NodeQuerySet:
    return rows.unfinished().without_payload().order_by("parent_id", "seq").locked()
