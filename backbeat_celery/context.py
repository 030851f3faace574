"""The node that is running here: what `current_node()` gives to a handler."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Unpack
from uuid import UUID

from backbeat_celery.exceptions import NotInNode

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from backbeat_celery.states import Mode
    from backbeat_celery.typing import SpawnOptions, TaskOrSignature


class SpawnedChild:
    """A child that the running handler has registered; it starts once the attempt succeeded."""

    __slots__ = ("id",)

    def __init__(self, id: UUID) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"<SpawnedChild {self.id}>"


class CurrentNode(Protocol):
    """The running node, as its handler sees it."""

    @property
    def id(self) -> UUID: ...
    @property
    def workflow_id(self) -> UUID: ...
    @property
    def parent_id(self) -> UUID: ...
    @property
    def subject(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def idempotency_key(self) -> str: ...
    @property
    def metadata(self) -> dict[str, Any]: ...

    def completion_token(self) -> str:
        """Give a signed token with which anybody may report this attempt's outcome, once."""

    def is_wanted(self) -> bool:
        """Tell whether this attempt's outcome would still be accepted: one query."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far this attempt is; cheap enough to call for each item of a loop.

        At most about one call a second is written to `Node.progress`. Raises BadInput.
        """

    def spawn(
        self,
        signature: TaskOrSignature,
        *,
        mode: Mode | str | None = None,
        barrier: bool = False,
        fires_at: datetime | None = None,
        delay: float | timedelta | None = None,
        key: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> SpawnedChild:
        """Register a child, recorded and started when this attempt succeeds."""

    def spawn_many(
        self, signatures: Iterable[TaskOrSignature], **options: Unpack[SpawnOptions]
    ) -> list[SpawnedChild]:
        """Register a child for each signature, all with the same options."""

    def flag(self, name: str, **options: Unpack[SpawnOptions]) -> SpawnedChild:
        """Register a child that calls no handler: it is done when its turn and time come."""


running: ContextVar[CurrentNode | None] = ContextVar("backbeat_running_node", default=None)


def current_node() -> CurrentNode:
    """Give the node whose handler calls this; raise NotInNode anywhere else."""
    node = running.get()
    if node is None:
        raise NotInNode(
            "No node is running here. current_node() works inside a handler that was started "
            "by signal() or spawn(), not in a task called directly or by apply_async()."
        )
    return node
