"""Send signals, and add children from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from django.db import DatabaseError, transaction

from backbeat_celery.api import CheckedSignal, check_close
from backbeat_celery.engine.advance import advance_after_commit
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.claim import lock_workflow
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.links import link as link_nodes
from backbeat_celery.engine.order.placement import Placement
from backbeat_celery.engine.order.turns import has_blocking_before, has_counting_before
from backbeat_celery.engine.running_node import RunningNode
from backbeat_celery.engine.statements import signal_batches
from backbeat_celery.engine.statements import signals as postgres
from backbeat_celery.exceptions import BackbeatError, BadInput, NodeFinished, WorkflowClosed
from backbeat_celery.inputs.canvas import task_spec
from backbeat_celery.inputs.message_headers import take
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.models import Node, Workflow, node_alias
from backbeat_celery.models.querysets import RACES
from backbeat_celery.models.transitions import RowDeleted
from backbeat_celery.runtime import failpoints, migration_state
from backbeat_celery.runtime.current_node import running
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.states import Mode, Status
from backbeat_celery.verbs.closing_signals import as_sent_here, close_runs, sent_before
from backbeat_celery.verbs.deleted_rows import WHY, reread
from backbeat_celery.verbs.foreign_transaction import warn_if_apart

if TYPE_CHECKING:
    from backbeat_celery.api import RunSignalOptions
    from backbeat_celery.typing import SpawnOptions, TaskOrSignature


def send(signals: Sequence[CheckedSignal]) -> list[Node]:
    """Insert checked signals in one transaction; give their nodes in the same order."""
    aliases = {signal.using or node_alias() for signal in signals}
    if len(aliases) > 1:
        raise BadInput(f"One transaction has one database; these signals name {sorted(aliases)}.")
    alias = aliases.pop()
    warn_if_apart(alias)
    signals = [as_sent_here(signal) for signal in signals]
    # Two callers lock the same workflows in the same order.
    order = sorted(range(len(signals)), key=lambda i: (signals[i].name, signals[i].subject, i))

    def once() -> list[Node]:
        nodes = _send_plain(signals, order, alias) or _send_any(signals, order, alias)
        return [nodes[index] for index in range(len(signals))]

    try:
        return repeat(once, using=alias)
    except DatabaseError as exc:
        migration_state.raise_if_not_migrated(exc, alias)
        raise


def _send_any(
    signals: Sequence[CheckedSignal], order: Sequence[int], alias: str
) -> dict[int, Node]:
    nodes: dict[int, Node] = {}
    after_commit = AfterCommit()
    closed = {signal.workflow for signal in signals if signal.close}
    with transaction.atomic(using=alias):
        for index in order:
            closes = signals[index].workflow in closed
            nodes[index], left = _signal_open_run(signals[index], alias, closes=closes)
            after_commit += left
        # After all roots are locked: the waiting node may be below one of them.
        for index in order:
            _link(signals[index].link, nodes[index], alias)
        # After the last signal of each run.
        ended = {nodes[index].workflow_id for index in order if signals[index].close}
        after_commit += close_runs(ended, alias)
        advance_after_commit(after_commit, alias)
    return nodes


def _signal_open_run(
    signal: CheckedSignal, alias: str, *, closes: bool
) -> tuple[Node, AfterCommit]:
    """Add a signal to the open run; the run may end before it is locked."""
    workflows = Workflow.objects.db_manager(alias)
    for _ in range(RACES):
        if (known := sent_before(signal, alias)) is not None:
            return known, AfterCommit()
        try:
            workflow = workflows.for_subject(signal.subject, signal.name)
            failpoints.hit("run_found")
            return _signal(workflow, signal.spec, closes=closes)
        except RunIsOver:
            continue
        except WorkflowClosed:
            # A call with the same key may have closed it since it was looked for.
            if (known := sent_before(signal, alias)) is None:
                raise
            return known, AfterCommit()
    raise BackbeatError(f"The runs of {signal.name!r} for {signal.subject!r} keep ending.")


def _send_plain(
    signals: Sequence[CheckedSignal], order: Sequence[int], alias: str
) -> dict[int, Node]:
    """Insert signals by few statements; give {} if these do not cover them."""
    if len(signals) > 1:
        return _send_batch(signals, order, alias)
    written = postgres.write_signal(signals[0], alias, outbox().prepare)
    if written is None:
        return {}
    node, after_commit = written
    advance_after_commit(after_commit, alias)
    return {0: node}


def _send_batch(
    signals: Sequence[CheckedSignal], order: Sequence[int], alias: str
) -> dict[int, Node]:
    if not signal_batches.can_write(signals, alias):
        return {}
    with transaction.atomic(using=alias):
        written = signal_batches.write_signals([signals[index] for index in order], alias)
        if written is None:
            transaction.set_rollback(True, using=alias)
            return {}
        nodes, after_commit = written
        advance_after_commit(after_commit, alias)
    return dict(zip(order, nodes, strict=True))


def signal_workflow(
    workflow: Workflow, signature: TaskOrSignature, **options: Unpack[RunSignalOptions]
) -> Node:
    """Add a signal to this run of a workflow."""
    given: dict[str, Any] = {"mode": Mode.BLOCKING, **options}
    link, close = given.pop("link", None), check_close(given.pop("close", False))
    spec = take(task_spec(signature, **given))
    alias = workflow.alias
    warn_if_apart(alias)

    def once() -> Node:
        with transaction.atomic(using=alias):
            failpoints.hit("run_found")
            try:
                node, after_commit = _signal(workflow, spec, closes=close)
            except WorkflowClosed:
                known = _child_with_key(workflow, _key_of(spec, workflow)) if close else None
                if known is None:
                    raise
                return known
            _link(link, node, alias)
            if close:
                after_commit += close_runs([workflow.pk], alias)
            advance_after_commit(after_commit, alias)
            return node

    node = repeat(once, using=alias)
    if close:
        reread(workflow)
    return node


def _signal(workflow: Workflow, spec: NodeSpec, *, closes: bool) -> tuple[Node, AfterCommit]:
    root, now = _lock_run(workflow, both=closes)
    key = _key_of(spec, workflow)
    node, after_commit = _child_with_key(root, key), AfterCommit()
    if node is None:
        node, after_commit = _append(root, spec, key, now)
    return node, after_commit


def _link(source: Node | UUID | None, node: Node, using: str) -> None:
    if source is not None:
        link_nodes(source.pk if isinstance(source, Node) else source, node, using)


class RunIsOver(WorkflowClosed):
    """The run is finished or was deleted; `signal()` opens the next one."""


def _lock_run(workflow: Workflow, *, both: bool) -> tuple[Node, datetime]:
    """Lock the root of a run that takes signals, or raise WorkflowClosed.

    `both`: the workflow's row as well, which comes before its nodes.
    """
    try:
        if both:
            lock_workflow(workflow.pk, workflow.alias)
        root, now = lock_node(workflow.pk, workflow.alias)
        workflow.refresh_from_db(fields=["closed_at", "unfinished"])
    except (RowDeleted, Workflow.DoesNotExist):
        raise RunIsOver(f"{workflow} was deleted. signal() opens the next run.") from None
    if workflow.unfinished is None:
        raise RunIsOver(f"{workflow} is finished. signal() opens the next run.")
    workflow.refuse_if_closed()
    return root, now


def _key_of(spec: NodeSpec, workflow: Workflow) -> str | None:
    """Give the key of a signal; one from a handler has one, so that a retry finds it."""
    node = running.get()
    if spec.key is not None or not isinstance(node, RunningNode):
        return spec.key
    return node.next_signal_key(spec.task or spec.name, workflow.pk, spec.id)


def add_child(parent: Node, signature: TaskOrSignature, **options: Unpack[SpawnOptions]) -> Node:
    """Add a child from outside to a node that is not finished, and have it waited for.

    It takes its place in the sibling order at once and runs when the parent's handler is accepted.
    Raises NodeFinished if there is nothing left to wait for it, BadInput for a flag.
    """
    spec = take(task_spec(signature, **options))
    warn_if_apart(parent.alias)
    return repeat(lambda: _add_child(parent, spec), using=parent.alias)


def _add_child(parent: Node, spec: NodeSpec) -> Node:
    with transaction.atomic(using=parent.alias):
        row, now = _lock_parent(parent)
        if row.is_root:
            row.workflow.refuse_if_closed()
        if known := _child_with_key(row, spec.key):
            return known
        node, after_commit = _append(row, spec, spec.key, now)
        advance_after_commit(after_commit, parent.alias)
        return node


def _lock_parent(parent: Node) -> tuple[Node, datetime]:
    """Lock a node that may get children; raise NodeFinished, or BadInput for a flag."""
    try:
        row, now = lock_node(parent.pk, parent.alias)
    except RowDeleted:
        raise NodeFinished("deleted", "add_child", parent.pk, WHY) from None
    if row.is_finished:
        raise NodeFinished(row.status, "add_child", row.pk, "Add it to a node above.")
    if row.is_flag:
        raise BadInput(f"{row.name} is a flag, done at its time; add the child to a node above.")
    return row, now


def _child_with_key(parent: Node | Workflow, key: str | None) -> Node | None:
    if key is None:
        return None
    return Node.objects.using(parent.alias).children_of(parent.pk).filter(key=key).first()


def _append(
    parent: Node, spec: NodeSpec, key: str | None, now: datetime
) -> tuple[Node, AfterCommit]:
    """Insert a child at the end of a parent's line, whose row is locked."""
    placement = Placement(parent, now)
    placement.add([replace(spec, key=key)], spawned_by=None)
    if parent.status == Status.WAITING:
        placement.assign_statuses(
            blocked=has_blocking_before(parent),
            has_open_counting=spec.barrier and has_counting_before(parent),
        )
    else:
        placement.assign(Status.PENDING)
    rows = Node.objects.using(parent.alias).filter(pk=parent.pk)
    rows.update(**placement.counters())
    after_commit = placement.insert()
    assert placement.first is not None
    return placement.first, after_commit
