"""The doors to the engine: what users, the admin and the commands call.

Each verb is one transaction; what it makes due is published after the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from backbeat_celery.context import running
from backbeat_celery.database import repeat
from backbeat_celery.engine.advance import advance_after_commit
from backbeat_celery.engine.children import Line, has_blocking_before, has_counting_before
from backbeat_celery.engine.finish import lock_node
from backbeat_celery.engine.links import link as link_nodes
from backbeat_celery.engine.running import RunningNode
from backbeat_celery.engine.wake import Wake
from backbeat_celery.exceptions import BadInput, NodeFinished
from backbeat_celery.models import Node, Workflow, node_alias
from backbeat_celery.specs import NodeSpec, task_spec
from backbeat_celery.states import Mode, Status
from backbeat_celery.subjects import subject_key

if TYPE_CHECKING:
    from django.db.models import Model


def signal(
    signature: Any,
    *,
    subject: Model | str,
    name: str | None = None,
    key: str | None = None,
    mode: Mode | str = Mode.BLOCKING,
    fires_at: datetime | None = None,
    delay: float | None = None,
    link: Node | UUID | None = None,
    metadata: dict[str, Any] | None = None,
    using: str | None = None,
) -> Node:
    """Add a top-level node to the workflow of `subject`, opening the workflow if need be.

    `signature` is a task or its signature. `name` is the workflow's, by default the task's.
    A second signal with the same `key` in the same run gives the first one. `link` makes that
    node wait for this signal. Inside `transaction.atomic()` the signal is part of the
    transaction; the broker is not needed.

    Raises BadInput for what cannot be used, WorkflowClosed, LinkCycle, InvalidTransition.
    """
    spec = task_spec(
        signature, mode=mode, fires_at=fires_at, delay=delay, key=key, metadata=metadata
    )
    about = subject_key(subject)
    alias = using or node_alias()

    def once() -> Node:
        with transaction.atomic(using=alias):
            manager = Workflow.objects.db_manager(alias)
            return _signal(manager.for_subject(about, name or spec.task), spec, link)

    return repeat(once, using=alias)


def signal_workflow(
    workflow: Workflow,
    signature: Any,
    *,
    key: str | None = None,
    mode: Mode | str = Mode.BLOCKING,
    fires_at: datetime | None = None,
    delay: float | None = None,
    link: Node | UUID | None = None,
    metadata: dict[str, Any] | None = None,
) -> Node:
    """Add a signal to this very run of a workflow."""
    spec = task_spec(
        signature, mode=mode, fires_at=fires_at, delay=delay, key=key, metadata=metadata
    )
    alias = str(workflow._state.db)

    def once() -> Node:
        with transaction.atomic(using=alias):
            return _signal(workflow, spec, link)

    return repeat(once, using=alias)


def signal_many(signals: Iterable[tuple[Any, Mapping[str, Any]]]) -> list[Node]:
    """Send several signals in one transaction: all of them or none.

    Each item is a signature and the options of `signal`. Nodes come back in the same order.
    """
    items = []
    for position, (signature, options) in enumerate(signals):
        options = dict(options)
        if "subject" not in options:
            raise BadInput(f"Signal number {position + 1} has no subject.")
        about = subject_key(options.pop("subject"))
        name, link = options.pop("name", None), options.pop("link", None)
        alias = options.pop("using", None) or node_alias()
        spec = task_spec(signature, **options)
        items.append((alias, name or spec.task, about, position, spec, link))
    aliases = {item[0] for item in items}
    if len(aliases) > 1:
        raise BadInput(f"One transaction has one database; these signals name {sorted(aliases)}.")
    return _signal_all(items, aliases.pop()) if items else []


def _signal_all(items: list[Any], alias: str) -> list[Node]:
    def once() -> list[Node]:
        nodes: dict[int, Node] = {}
        with transaction.atomic(using=alias):
            manager = Workflow.objects.db_manager(alias)
            # Two callers with the same workflows lock them in the same order.
            for _alias, name, about, position, spec, link in sorted(items, key=lambda i: i[:4]):
                nodes[position] = _signal(manager.for_subject(about, name), spec, link)
        return [nodes[position] for position in sorted(nodes)]

    return repeat(once, using=alias)


def _signal(workflow: Workflow, spec: NodeSpec, link: Node | UUID | None) -> Node:
    using = str(workflow._state.db)
    key = spec.key or _key_in_handler(spec, workflow)
    root, now = lock_node(workflow.pk, using)
    workflow.refresh_from_db(fields=["closed_at"])
    workflow.refuse_if_closed()
    if known := _child_with_key(root, key):
        return known
    node, wake = _append(root, spec, key, now)
    if link is not None:
        link_nodes(link.pk if isinstance(link, Node) else link, node, using)
    advance_after_commit(wake, using)
    return node


def _key_in_handler(spec: NodeSpec, workflow: Workflow) -> str | None:
    """A signal from inside a handler stays sent if the attempt fails: the retry must find it."""
    node = running.get()
    return node.next_signal_key(spec.task, workflow.pk) if isinstance(node, RunningNode) else None


def add_child(
    parent: Node,
    signature: Any,
    *,
    mode: Mode | str | None = None,
    barrier: bool = False,
    fires_at: datetime | None = None,
    delay: float | None = None,
    key: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Node:
    """Add a child from outside to a node that is not finished, and have it waited for.

    It takes its place in the line at once and runs when the parent's handler is accepted.
    Raises NodeFinished if there is nothing left to wait for it.
    """
    spec = task_spec(
        signature,
        mode=mode,
        barrier=barrier,
        fires_at=fires_at,
        delay=delay,
        key=key,
        metadata=metadata,
    )
    using = str(parent._state.db)

    def once() -> Node:
        with transaction.atomic(using=using):
            row, now = lock_node(parent.pk, using)
            if row.is_finished:
                raise NodeFinished(row.status, "add_child", row.pk, "Add it to a node above.")
            if known := _child_with_key(row, spec.key):
                return known
            node, wake = _append(row, spec, spec.key, now)
            advance_after_commit(wake, using)
            return node

    return repeat(once, using=using)


def _child_with_key(parent: Node, key: str | None) -> Node | None:
    if key is None:
        return None
    return Node.objects.using(parent._state.db).children_of(parent.pk).filter(key=key).first()


def _append(parent: Node, spec: NodeSpec, key: str | None, now: datetime) -> tuple[Node, Wake]:
    """Insert a child at the end of a parent's line, whose row is locked."""
    line = Line(parent, now)
    line.add([spec], spawned_by=None)
    line.children[0].key = key
    if parent.status == Status.WAITING:
        line.take_turns(
            blocked=has_blocking_before(parent),
            crowded=spec.barrier and has_counting_before(parent),
        )
    else:
        line.hold(Status.PENDING)
    rows = Node.objects.using(parent._state.db).filter(pk=parent.pk)
    rows.update(**line.counters())
    wake = line.insert()
    return line.children[0], wake


__all__ = ["add_child", "signal", "signal_many", "signal_workflow"]
