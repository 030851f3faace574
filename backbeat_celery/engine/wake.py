"""What a committed change leaves to do: messages to send and parents to look at.

A wake is only a hint for speed. Whatever is lost with it, the sweeper finds in the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from backbeat_celery.conf import settings
from backbeat_celery.models import Node


@dataclass(frozen=True, slots=True)
class Publication:
    """One message to send: claim this attempt of this node, `countdown` seconds from now."""

    node_id: UUID
    attempt: int
    task: str
    options: dict[str, Any]
    countdown: float
    argsrepr: str
    kwargsrepr: str

    @classmethod
    def of(cls, node: Node, now: datetime) -> Publication:
        """The message that asks a worker to claim the next attempt of `node`."""
        return cls(
            node_id=node.pk,
            attempt=node.attempt + 1,
            task=node.task,
            options=node.options,
            countdown=seconds_until(node.fires_at, now),
            argsrepr=shown_args(node.args),
            kwargsrepr=shown_kwargs(node.kwargs),
        )


@dataclass(slots=True)
class Wake:
    """Work for after the commit."""

    publications: list[Publication] = field(default_factory=list)
    look_at: list[UUID] = field(default_factory=list)
    """Waiting nodes that may be complete now, or whose barrier may open."""
    ended_signals: list[UUID] = field(default_factory=list)
    """Finished signals, for which nodes of other workflows may wait."""

    def __iadd__(self, other: Wake) -> Wake:
        self.publications += other.publications
        self.look_at += other.look_at
        self.ended_signals += other.ended_signals
        return self

    def __bool__(self) -> bool:
        return bool(self.publications or self.look_at or self.ended_signals)

    def ended(self, node: Node) -> None:
        """Note that `node` is finished: its parent, or nodes linked to it, may go on."""
        if node.counts and node.parent_id is not None:
            self.look_at.append(node.parent_id)
        if node.parent_id == node.workflow_id:
            self.ended_signals.append(node.pk)


def seconds_until(fires_at: datetime | None, now: datetime) -> float:
    """Seconds from `now` until a node may run; 0 when it may already."""
    return 0.0 if fires_at is None else max(0.0, (fires_at - now).total_seconds())


def is_due(fires_at: datetime | None, now: datetime) -> bool:
    """Tell whether a node may run."""
    return fires_at is None or fires_at <= now


def shown_args(args: list[Any]) -> str:
    """Arguments as monitors and logs show them."""
    return _cut(repr(tuple(args)))


def shown_kwargs(kwargs: dict[str, Any]) -> str:
    """Keyword arguments as monitors and logs show them, the secret ones hidden."""
    secret = settings.redact
    return _cut(repr({k: "***" if k in secret else v for k, v in kwargs.items()}))


def _cut(text: str) -> str:
    return text if len(text) <= 200 else text[:197] + "..."
