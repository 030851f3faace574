"""The verbs of a node: retry, resolve, shutdown, cancel, reset and cancel_previous.

Each verb locks the rows of the node and its parent while it decides, so that workers, sweepers
and other verbs run before it or after it, never in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from backbeat_celery.engine.advance import advance_after_commit
from backbeat_celery.engine.after_commit import AfterCommit, Publication
from backbeat_celery.engine.attempt_results import release_children
from backbeat_celery.engine.claim import lock_workflow
from backbeat_celery.engine.order.cancel import (
    Top,
    cancel_below,
    cancel_rows,
    cancel_trees,
    topmost,
)
from backbeat_celery.engine.order.consequences import canceled_by_shutdown
from backbeat_celery.engine.order.dependents import cancel_dependents, lock_canvas
from backbeat_celery.engine.order.finish import finish, lock_node
from backbeat_celery.engine.order.links import has_open_link
from backbeat_celery.engine.order.subtree import BATCH
from backbeat_celery.engine.order.turns import has_counting_before
from backbeat_celery.engine.publish_times import after_a_lease
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.inputs import payload
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.lineage import lineage
from backbeat_celery.models.transitions import transition
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.states import UNFINISHED, Outcome, Status, Yields
from backbeat_celery.verbs.actor import actor_name, reason_text
from backbeat_celery.verbs.deleted_rows import reread, unless_deleted
from backbeat_celery.verbs.foreign_transaction import warn_if_apart


def retry(node: Node, *, by: Any = None, reason: str = "") -> None:
    """Start a new attempt of a failed or retrying node; cancel the children of earlier ones.

    It allows one more attempt: the retry count stays as it is.
    """
    _steer(node, "retry", {Status.FAILED, Status.RETRYING}, _retry, by, reason)


def resolve(node: Node, result: Any = None, *, by: Any = None, reason: str = "") -> None:
    """Treat a failed node as complete: children added from outside and successors run."""
    payload.encode(result, "The result")
    settle = partial(_settle, outcome=Outcome.RESOLVED, result=result)
    _steer(node, "resolve", {Status.FAILED}, settle, by, reason)


def shutdown(node: Node, *, by: Any = None, reason: str = "") -> None:
    """Complete a failed node and cancel what waited for it.

    If it is blocking, these are all siblings behind it; if not, the first barrier behind it and
    all siblings behind that.
    """
    _steer(node, "shutdown", {Status.FAILED}, _shutdown, by, reason)


def cancel(node: Node, *, by: Any = None, reason: str = "") -> None:
    """Cancel an unfinished node with its subtree; its siblings continue.

    A running handler is not stopped; its result is discarded.
    """
    _steer(node, "cancel", UNFINISHED, _cancel, by, reason)


def reset(node: Node, *, by: Any = None, reason: str = "") -> None:
    """Cancel everything below an unfinished node; the node itself continues."""
    _steer(node, "reset", UNFINISHED, _reset, by, reason)


def cancel_previous(node: Node, *, by: Any = None, reason: str = "") -> None:
    """Cancel every unfinished node of the workflow that was created before this one.

    The ancestors of this node are not canceled.
    """
    actor, why, using = actor_name(by), reason_text(reason), node.alias
    warn_if_apart(using, "cancel_previous()")

    def once() -> None:
        with transaction.atomic(using=using):
            with unless_deleted("cancel_previous", node.pk):
                lock_workflow(node.workflow_id, using)
            rows = topmost(_registered_before(node))
            after_commit = cancel_trees(
                rows, using, actor=actor, reason=why or "canceled as previous"
            )
            advance_after_commit(after_commit, using)

    repeat(once, using=using)
    reread(node)


@dataclass(frozen=True, slots=True)
class LockedNode:
    """A node that is locked for a verb, together with its parent."""

    node: Node
    workflow: Workflow
    now: datetime
    actor: str
    reason: str

    @property
    def using(self) -> str:
        return self.node.alias

    def move(self, to: Status, **values: Any) -> None:
        """Change the node's status."""
        transition(self.node, to, actor=self.actor, reason=self.reason, **values)


def _steer(
    node: Node,
    verb: str,
    allowed: Collection[Status],
    act: Callable[[LockedNode], AfterCommit],
    by: Any,
    reason: str,
) -> None:
    actor, why, using = actor_name(by), reason_text(reason), node.alias
    if node.is_root:
        hint = "This is the root; steer its workflow."
        raise InvalidTransition(node.status, verb, node.pk, hint)
    warn_if_apart(using, f"{verb}()")

    def once() -> None:
        with transaction.atomic(using=using):
            with unless_deleted(verb, node.pk):
                locked = _lock(node, verb, allowed, actor, why)
            failpoints.hit("verb_begun")
            after_commit = act(locked)
            failpoints.hit("verb_written")
            advance_after_commit(after_commit, using)

    repeat(once, using=using)
    reread(node)


def _lock(
    node: Node, verb: str, allowed: Collection[Status], actor: str, reason: str
) -> LockedNode:
    using = node.alias
    assert node.parent_id is not None
    workflow = lock_workflow(node.workflow_id, using)
    if verb in {"cancel", "shutdown"}:
        lock_canvas(node)
    lock_node(node.parent_id, using)
    row, now = lock_node(node.pk, using)
    if row.status not in allowed:
        raise InvalidTransition(row.status, verb, row.pk, _hint(verb, row, allowed))
    return LockedNode(row, workflow, now, actor, reason)


def _hint(verb: str, node: Node, allowed: Collection[Status]) -> str:
    if node.is_finished:
        return "It is finished."
    return f"{verb}() takes a node that is {' or '.join(sorted(allowed))}."


def _retry(locked: LockedNode) -> AfterCommit:
    node = locked.node
    cancel_below(
        [node.pk],
        locked.using,
        actor=locked.actor,
        reason="its parent was retried",
        spare_rescues=True,
        release_keys=True,
    )
    if node.status == Status.FAILED and locked.workflow.paused_at:
        locked.move(Status.PAUSED, fires_at=None, publish_count=0, next_barrier=None)
        return AfterCommit()
    publish_at = after_a_lease()
    locked.move(
        Status.QUEUED, fires_at=None, publish_count=0, publish_at=publish_at, next_barrier=None
    )
    queued = Node.objects.using(locked.using).get(pk=node.pk)
    return AfterCommit(publications=[Publication.of(queued, locked.now)])


def _shutdown(locked: LockedNode) -> AfterCommit:
    node, after_commit = locked.node, AfterCommit()
    siblings = canceled_by_shutdown(node).without_payload().locked()
    reason = f"{node.name} before it was shut down"
    last = node.seq
    while rows := list(siblings.filter(seq__gt=last)[:BATCH]):
        last = rows[-1].seq
        cancel_rows(rows, actor=locked.actor, reason=reason)
        cancel_below([row.pk for row in rows], locked.using, actor=locked.actor, reason=reason)
        for row in rows:
            after_commit.add_finished(row)
    after_commit += _give_up(locked, reason)
    after_commit += _settle(locked, Outcome.SHUTDOWN)
    return after_commit


def _settle(locked: LockedNode, outcome: Outcome, result: Any = None) -> AfterCommit:
    """Complete a failed node, after the children that were added to it, if any.

    The result is its value, whatever its handler would have given.
    """
    node = locked.node
    value = {"result": result, "yields": Yields.OWN}
    is_open = has_counting_before(node) or has_open_link(node)
    if is_open:
        locked.move(Status.WAITING, outcome=outcome, **value)
        after_commit = release_children(node, locked.now)
        # A link may have been settled since it was read.
        after_commit.maybe_complete.append(node.pk)
        return after_commit
    after_commit = finish(node, outcome=outcome, actor=locked.actor, reason=locked.reason, **value)
    after_commit += release_children(node, locked.now)
    return after_commit


def _cancel(locked: LockedNode) -> AfterCommit:
    assert locked.node.parent_id is not None  # _steer refuses roots
    node = locked.node
    top = (node.pk, locked.node.parent_id)
    after_commit = _give_up(locked, f"{node.name} was canceled")
    after_commit += cancel_trees([top], locked.using, actor=locked.actor, reason=locked.reason)
    return after_commit


def _give_up(locked: LockedNode, reason: str) -> AfterCommit:
    """Cancel what needs the node's value."""
    return cancel_dependents(locked.node, actor=locked.actor, reason=reason)


def _reset(locked: LockedNode) -> AfterCommit:
    node = locked.node
    reason = locked.reason or "its parent was reset"
    cancel_below([node.pk], locked.using, actor=locked.actor, reason=reason, release_keys=True)
    Node.objects.using(locked.using).filter(pk=node.pk).update(next_barrier=None)
    return AfterCommit(maybe_complete=[node.pk])


def _registered_before(node: Node) -> Iterator[Top]:
    """Give the unfinished nodes of the workflow that are older, without the node's ancestors.

    Siblings of the node and of its ancestors are compared by place, other nodes by time.
    """
    above = lineage([node.pk], node.alias)
    places = {row.parent_id: row.seq for row in above.values()}
    rows = Node.objects.using(node.alias).unfinished_in(node.workflow_id)
    columns = rows.values_list("pk", "parent_id", "seq", "created_at")
    for pk, parent_id, seq, created_at in columns.iterator():
        if parent_id in places:
            is_before = seq < places[parent_id]
        else:
            is_before = (created_at, pk) < (node.created_at, node.pk)
        if is_before and pk not in above:
            yield pk, parent_id
