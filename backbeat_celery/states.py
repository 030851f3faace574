"""The state machine: statuses, modes, outcomes and the table of transitions.

All other modules read these: model choices, the writer of statuses, the sweeper,
the tree and the docs. Nothing here uses a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from django.db.models import IntegerChoices, TextChoices
from django.utils.translation import gettext_lazy as _


class Status(TextChoices):
    """The status of a node."""

    PENDING = "pending", _("pending")
    READY = "ready", _("ready")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    RETRYING = "retrying", _("retrying")
    WAITING = "waiting", _("waiting")
    PAUSED = "paused", _("paused")
    FAILED = "failed", _("failed")
    COMPLETE = "complete", _("complete")
    CANCELED = "canceled", _("canceled")


class Mode(TextChoices):
    """Whether later siblings and the parent wait for a node."""

    BLOCKING = "blocking", _("blocking")
    NON_BLOCKING = "non_blocking", _("non-blocking")
    FIRE_AND_FORGET = "fire_and_forget", _("fire and forget")


class Outcome(TextChoices):
    """How a complete node came to be complete."""

    SUCCEEDED = "succeeded", _("succeeded")
    RESOLVED = "resolved", _("resolved")
    SHUTDOWN = "shutdown", _("shutdown")


class Container(TextChoices):
    """The forms of Celery's canvas that are a node with children and without a handler."""

    CHAIN = "chain", _("chain")
    GROUP = "group", _("group")
    CHORD = "chord", _("chord")


class Input(IntegerChoices):
    """What a node's handler gets as its first argument, before its own.

    For a child of a container, `PARENT` is what the container itself gets as input.
    """

    NONE = 0, _("nothing")
    PREVIOUS = 1, _("the value of the sibling before it")
    PARENT = 2, _("the value of its parent")
    FAILURE = 3, _("request, exception and traceback of the node that has failed")
    FAILED_ID = 4, _("the id of the node that has failed")

    @property
    def arguments(self) -> int:
        """How many arguments it is."""
        return {Input.NONE: 0, Input.FAILURE: 3}.get(self, 1)


class Yields(IntegerChoices):
    """What a node's value is."""

    OWN = 0, _("its own result")
    LAST = 1, _("the value of its last child")
    LIST = 2, _("the values of its children in order")


class AttemptOutcome(TextChoices):
    """How one attempt of a node ended."""

    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    TIMED_OUT = "timed_out", _("timed out")
    LOST = "lost", _("lost")
    GIVEN_BACK = "given_back", _("given back")
    CANCELED = "canceled", _("canceled")


TRANSITIONS: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.PENDING: frozenset(
            {
                Status.READY,
                Status.QUEUED,
                Status.WAITING,
                Status.PAUSED,
                Status.COMPLETE,
                Status.CANCELED,
            }
        ),
        Status.READY: frozenset(
            {Status.QUEUED, Status.WAITING, Status.PAUSED, Status.COMPLETE, Status.CANCELED}
        ),
        Status.QUEUED: frozenset(
            {Status.RUNNING, Status.PAUSED, Status.COMPLETE, Status.FAILED, Status.CANCELED}
        ),
        Status.RUNNING: frozenset(
            {
                Status.WAITING,
                Status.COMPLETE,
                Status.RETRYING,
                Status.FAILED,
                Status.QUEUED,
                Status.CANCELED,
            }
        ),
        Status.RETRYING: frozenset(
            {Status.RUNNING, Status.QUEUED, Status.PAUSED, Status.CANCELED}
        ),
        Status.PAUSED: frozenset({Status.QUEUED, Status.CANCELED}),
        Status.WAITING: frozenset({Status.COMPLETE, Status.CANCELED}),
        Status.FAILED: frozenset(
            {Status.QUEUED, Status.PAUSED, Status.WAITING, Status.COMPLETE, Status.CANCELED}
        ),
        Status.COMPLETE: frozenset(),
        Status.CANCELED: frozenset(),
    }
)
"""For each status, the statuses that may follow it; every other pair is refused."""

INITIAL = frozenset({Status.PENDING, Status.READY, Status.QUEUED, Status.PAUSED})
"""Statuses in which a node may be created; the root and containers start as `waiting`, too."""

FINISHED = frozenset({Status.COMPLETE, Status.CANCELED})
UNFINISHED = frozenset(Status) - FINISHED
CLAIMABLE = frozenset({Status.QUEUED, Status.RETRYING})
"""Statuses whose turn has come: a worker may claim the node once it is due."""

UNACCEPTED = UNFINISHED - {Status.WAITING}
"""Statuses in which the node's handler has not been accepted yet: its children are `pending`."""

COUNTING = frozenset({Mode.BLOCKING, Mode.NON_BLOCKING})
"""Modes that a parent waits for."""


def is_allowed(current: str, to: str) -> bool:
    """Tell whether the table allows a node to go from one status to another."""
    return Status(to) in TRANSITIONS[Status(current)]
