"""Cancel nodes with their subtrees, from the top down: used by several verbs.

A level is canceled before the level below is read, in a new statement. So children that a
handler recorded meanwhile are seen, and a handler whose node is canceled records none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.subtree import BATCH, levels_below
from backbeat_celery.engine.order.turns import open_behind
from backbeat_celery.models import Attempt, Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.models.transitions import transition_all
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.batches import batched
from backbeat_celery.runtime.lock_timeouts import step
from backbeat_celery.states import AttemptOutcome, Status

Top = tuple[UUID, UUID]
"""The ids of a node that is canceled with its subtree, and of its parent."""


def cancel_trees(
    tops: Iterable[Top], using: str, *, actor: str, reason: str, opens: bool = True
) -> AfterCommit:
    """Cancel nodes with their subtrees, in the caller's transaction.

    No node of `tops` is below another. Nodes that are finished by now stay as they are, but what
    is unfinished below them is canceled. `opens`: siblings that waited for them are queued.
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

    Their ids are in no such order: each was made by the clock of the machine that sent the node.
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
    """Count the nodes above each; all of them are keys of `parents`."""
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
            after_commit.add_finished(row)
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
    """Cancel everything below these nodes, whose rows the caller has locked.

    `release_keys` lets later children of these nodes use the keys of these children again;
    `spare_rescues` leaves out rescues of these nodes with their subtrees.
    """
    for depth, children in levels_below(ids, using, spare_rescues=spare_rescues):
        values: dict[str, Any] = {"key": None} if release_keys and depth == 1 else {}
        cancel_rows(list(_locked(children)), actor=actor, reason=reason, **values)
        failpoints.hit("level_canceled")


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
    """Cancel one node whose parent is canceled; a later pass cancels the nodes below it."""
    after_commit = AfterCommit()
    with step(node.alias):
        rows = list(_locked(Node.objects.using(node.alias).filter(pk=node.pk)))
        cancel_rows(rows, reason="a node above was canceled")
    after_commit.add_finished(node)
    return after_commit


def topmost(rows: Iterable[Top]) -> list[Top]:
    """Give the nodes whose parents are not among them."""
    parents = dict(rows)
    return [(pk, above) for pk, above in parents.items() if above not in parents]


def _locked(rows: NodeQuerySet) -> NodeQuerySet:
    return rows.unfinished().without_payload().order_by("parent_id", "seq").locked()
