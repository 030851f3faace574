"""The error family.

BackbeatError
├── InvalidTransition      a verb or a step that the node's status does not allow
│   ├── StaleAttempt       a report of an attempt that is no longer the current one
│   └── NodeFinished       a child added to a node that is finished
├── WorkflowClosed         a signal to a workflow that takes no more
├── NotInTransaction       a warning: a signal or verb inside a transaction of another database
├── NotInNode              `current_node()` outside a handler
├── LinkCycle              a link that would make two nodes wait for each other
├── NotFinished            the value of a node that is not finished yet
├── NoValue                the value of a node that has none, and never will
├── InputTooLarge          a node whose input is more than one attempt may get
├── NodeFailed             a failed node whose exception is not known
├── NotMigrated            the tables of this app are not in the database
└── BadInput (ValueError)  the input cannot be used, and nothing was written
    ├── BadSubject         unsaved, empty or too long
    ├── BadPayload         JSON cannot carry it, or it is too large
    ├── BadTime            not a time, without time zone, or given twice
    ├── BadMode            a mode that does not exist or does not fit
    ├── BadToken           a completion token that we did not sign, or that is too old
    ├── UnknownTask        no task of that name is registered
    └── UnsupportedOption  a signature option that a node cannot honour
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

MOVING = "docs/moving-from-celery.md"
"""The page that says, under a heading for each refusal, what to do instead."""


def see(anchor: str) -> str:
    """Point to a heading of the page `MOVING`, as the last sentence of a message."""
    return f"See {MOVING}#{anchor}."


class BackbeatError(Exception):
    """Something in backbeat_celery went wrong."""

    is_final = True
    """Whether it fails the node for good if a handler raises it: an error of the program."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidTransition(BackbeatError):
    """The node's status does not allow this.

    `current` is the status found, `attempted` the status or verb asked for, `node_id` the node.
    """

    is_final = False

    def __init__(self, current: str, attempted: str, node_id: UUID, hint: str = "") -> None:
        self.current = current
        self.attempted = attempted
        self.node_id = node_id
        self.hint = hint
        message = f"Node {node_id} is {current}; {attempted!r} is not possible from there."
        super().__init__(f"{message} {hint}".rstrip())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.current, self.attempted, self.node_id, self.hint)


class StaleAttempt(InvalidTransition):
    """The attempt that reports is not the node's current one, so its report is discarded."""


class NodeFinished(InvalidTransition):
    """The node is finished and takes no more children."""


class WorkflowClosed(BackbeatError):
    """This workflow is closed and takes no more signals; once it is finished a new run opens."""

    is_final = False


class NotInNode(BackbeatError):
    """No node is running here: call this inside a handler that runs as a node."""


class LinkCycle(BackbeatError):
    """The link would close a cycle of nodes that wait for each other."""


class NotFinished(BackbeatError):
    """The node is not finished yet, so it has no value."""

    is_final = False


class NoValue(BackbeatError):
    """The node has no value: it was canceled, or its result could not be stored."""


class NodeFailed(BackbeatError):
    """The node has failed, and no exception of a handler is known: the text says why."""

    is_final = False


class InputTooLarge(BackbeatError):
    """The results that a node gets as input are larger than BACKBEAT['MAX_INPUT']."""


class NotMigrated(BackbeatError):
    """The tables of this app are not in the database: run manage.py migrate."""


class BadInput(BackbeatError, ValueError):
    """The input cannot be used."""


class BadSubject(BadInput):
    """A subject is a saved model instance or a string of 1 to 255 characters."""


class BadPayload(BadInput):
    """The value cannot be stored as JSON."""


class BadTime(BadInput):
    """A time is given as an aware datetime or as a delay in seconds, not both."""


class BadMode(BadInput):
    """A mode is one of blocking, non_blocking and fire_and_forget."""


class BadToken(BadInput):
    """This is not a completion token of ours, or it is too old."""


class UnknownTask(BadInput):
    """No task of that name is registered with the Celery app."""


class UnsupportedOption(BadInput):
    """A node cannot honour this option of the signature.

    The message ends with the heading of docs/moving-from-celery.md that says what to do instead;
    `anchor` names it, and is empty in a message that names several.
    """

    def __init__(self, message: str | None = None, *, anchor: str = "") -> None:
        self.anchor = anchor
        super().__init__(f"{message} {see(anchor)}" if anchor else message)


class NotInTransaction(BackbeatError, RuntimeWarning):
    """A signal or a verb was called inside a transaction of a database that keeps no nodes."""
