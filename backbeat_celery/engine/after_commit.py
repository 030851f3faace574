"""The work that a committed change leaves: messages to send, parents to complete.

It only saves time: if it is lost, the sweeper finds the same work in the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.failure_log import Failure
from backbeat_celery.engine.publish_times import seconds_until
from backbeat_celery.inputs.message_headers import kept
from backbeat_celery.inputs.node_spec import MESSAGE_OPTIONS, NodeSpec
from backbeat_celery.inputs.policy import kept_sent_options
from backbeat_celery.inputs.redaction import given_arguments, redact_args, redact_kwargs
from backbeat_celery.models import Node
from backbeat_celery.runtime.text import shorten

DISPATCH = "backbeat.dispatch"
"""The task that sends a remote node's call to the workers of another code base."""

ADVANCE = "backbeat.advance"
"""The task that continues an advance with too many steps for one call."""

AT_ONCE = 1000
"""Rows that are read, or messages that are kept in memory, at once."""

LONGEST_REPR = 200
"""Characters of the arguments that monitors and logs show."""


def called_task(node: Node | NodeSpec) -> str:
    """Name the task that a node's message calls."""
    return DISPATCH if node.remote else node.task


def options_of(node: Node | NodeSpec) -> dict[str, Any]:
    """Give the options of a node's message; those of a remote node are for its call."""
    if node.remote:
        return {}
    options = message_options(node)
    if node.options and (kept := kept_sent_options(node)):
        return {**kept, **options}
    return options


def message_options(node: Node | NodeSpec) -> dict[str, Any]:
    """Give those of a node's options that are options of a message."""
    options: dict[str, Any] = node.options
    return {name: options[name] for name in options if name in MESSAGE_OPTIONS} if options else {}


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to send: claim this attempt of this node, `countdown` seconds from now."""

    node_id: UUID
    attempt: int
    task: str
    options: dict[str, Any]
    countdown: float
    argsrepr: str
    kwargsrepr: str
    others: tuple[UUID, ...] = ()
    """Other nodes of the same task whose first attempts the message is for, too."""
    headers: dict[str, Any] = field(default_factory=dict)
    """Headers of the node's creator."""

    @property
    def node_ids(self) -> tuple[UUID, ...]:
        """Ids of all nodes that the message is for."""
        return (self.node_id, *self.others)

    @classmethod
    def of(cls, node: Node, now: datetime) -> Publication:
        """Make the message for the next attempt of `node`."""
        return cls._of(node, node.pk, node.attempt + 1, seconds_until(node.fires_at, now))

    @classmethod
    def first(cls, spec: NodeSpec, countdown: float) -> Publication:
        """Make the message for the first attempt of a node that was created from `spec`."""
        return cls._of(spec, spec.id, 1, countdown)

    @classmethod
    def _of(cls, call: Node | NodeSpec, pk: UUID, attempt: int, countdown: float) -> Publication:
        return cls(
            node_id=pk,
            attempt=attempt,
            task=called_task(call),
            options=options_of(call),
            countdown=countdown,
            argsrepr=shown_args(call),
            # Monitors that show arguments then show the node's id, too.
            kwargsrepr=f"{shown_kwargs(call)}  # node {pk}",
            headers=kept(call.options),
        )


@dataclass(slots=True)
class Announcements:
    """Ended nodes and workflows, for the log and for receivers of Django signals."""

    completed: list[UUID] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    workflows: list[UUID] = field(default_factory=list)

    def __iadd__(self, other: Announcements) -> Announcements:
        self.completed += other.completed
        self.failed += other.failed
        self.workflows += other.workflows
        return self

    def __bool__(self) -> bool:
        return bool(self.completed or self.failed or self.workflows)


@dataclass(frozen=True, slots=True)
class ChildRange:
    """A range of queued children of a node, too many to keep their messages in memory."""

    parent_id: UUID
    first: int
    last: int


@dataclass(slots=True)
class AfterCommit:
    """Work for after the commit."""

    publications: list[Publication] = field(default_factory=list)
    child_ranges: list[ChildRange] = field(default_factory=list)
    """Children whose messages are built from the rows, in batches."""
    maybe_complete: list[UUID] = field(default_factory=list)
    """Waiting nodes that may be complete now, or whose next barrier may open."""
    ended_signals: list[UUID] = field(default_factory=list)
    """Finished signals; nodes of other workflows may be linked to them."""
    due_flags: list[UUID] = field(default_factory=list)
    """Queued flags that may be due."""
    announcements: Announcements = field(default_factory=Announcements)
    """What to announce at the end."""

    def __iadd__(self, other: AfterCommit) -> AfterCommit:
        self.publications += other.publications
        self.child_ranges += other.child_ranges
        self.maybe_complete += other.maybe_complete
        self.ended_signals += other.ended_signals
        self.due_flags += other.due_flags
        self.announcements += other.announcements
        return self

    def __bool__(self) -> bool:
        return self.has_work or bool(self.announcements)

    @property
    def has_work(self) -> bool:
        """Whether there is more to do than announcements."""
        work = self.publications or self.child_ranges or self.maybe_complete or self.ended_signals
        return bool(work or self.due_flags)

    def add_finished(self, node: Node) -> None:
        """Add what a finished node may let go on: its parent, and nodes that are linked to it."""
        if node.counts and node.parent_id is not None:
            self.maybe_complete.append(node.parent_id)
        if node.parent_id == node.workflow_id:
            self.ended_signals.append(node.pk)


def publications_due(nodes: Iterable[Node], now: datetime) -> list[Publication]:
    """Make the messages of queued nodes that are due within the horizon; flags have none."""
    horizon = settings.publish_horizon
    return [
        Publication.of(node, now)
        for node in nodes
        if not node.is_flag and seconds_until(node.fires_at, now) <= horizon
    ]


def shown_args(call: Node | NodeSpec) -> str:
    """Give arguments as monitors and logs show them, with secrets hidden."""
    args = redact_args(call.task, call.args, "***", given=given_arguments(call))
    return shorten(repr(tuple(args)), LONGEST_REPR, "...")


def shown_kwargs(call: Node | NodeSpec) -> str:
    """Give keyword arguments as monitors and logs show them, with secrets hidden."""
    return shorten(repr(redact_kwargs(call.task, call.kwargs, "***")), LONGEST_REPR, "...")


def rebuild_after_commit(node_id: UUID, using: str, *, only_barriers: bool = False) -> AfterCommit:
    """Read from the rows the work that a committed step has left, when its answer was lost.

    Some of it may be done already: the claim ignores duplicate messages. With `only_barriers`,
    other children are left out, for a step that cannot have queued them.
    """
    after_commit = AfterCommit()
    nodes = Node.objects.using(using)
    row = nodes.filter(pk=node_id).without_payload().with_time().first()
    if row is None:
        return after_commit
    children = Q(parent_id=row.pk, barrier=True) if only_barriers else Q(parent_id=row.pk)
    opened = Q(pk=row.pk) | children
    if row.is_finished:
        after_commit.add_finished(row)
        if row.is_blocking:
            opened |= Q(parent_id=row.parent_id, seq__gt=row.seq)
    elif not only_barriers:
        after_commit.maybe_complete.append(row.pk)
    due = nodes.claimable().filter(opened, publish_count=0).exclude(task="")
    after_commit.publications = publications_due(
        due.defer("result", "error", "metadata"), row.db_now
    )
    return after_commit
