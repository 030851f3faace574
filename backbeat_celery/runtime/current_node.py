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
    """A child that the running handler has registered; it starts once the attempt succeeded.

    `id` is that of its node, which is not in the database before that.
    """

    __slots__ = ("id",)

    def __init__(self, id: UUID) -> None:
        self.id = id

    def __repr__(self) -> str:
        return f"<SpawnedChild {self.id}>"


class CurrentNode(Protocol):
    """The running node, as its handler sees it."""

    @property
    def id(self) -> UUID:
        """The node's id."""

    @property
    def workflow_id(self) -> UUID:
        """The id of its workflow, and of the workflow's root."""

    @property
    def parent_id(self) -> UUID:
        """The id of the node above; of a signal, its workflow's id."""

    @property
    def subject(self) -> str:
        """What the workflow is about, as text: a model instance is `app.model:pk`."""

    @property
    def name(self) -> str:
        """The node's name: that of its task."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for each attempt of this node, and different for each node."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata that the node was given."""

    def completion_token(self) -> str:
        """Give a signed token with which anybody may report this attempt's outcome, once.

        It is safe in a URL. `complete_by_token()` and `fail_by_token()` take it.
        """

    def is_wanted(self) -> bool:
        """Tell whether this attempt's outcome would still be accepted: one query."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far this attempt is; cheap enough to call for each item of a loop.

        `done` and `total` are not negative; `message` is cut after 255 characters. At most about
        one call a second is written to `Node.progress`. Raises BadInput.
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
        """Register a child, recorded and started when this attempt succeeds.

        `signature` is a task or its signature. `mode` is by default the task's, else blocking.
        A `barrier` waits for all earlier children that count. `delay` is in seconds, `fires_at`
        an aware datetime. A `key` is unique among the children of this node.

        Raises BadInput for what cannot be used.
        """

    def spawn_many(
        self, signatures: Iterable[TaskOrSignature], **options: Unpack[SpawnOptions]
    ) -> list[SpawnedChild]:
        """Register a child for each signature, all with the same options as `spawn` takes."""

    def flag(self, name: str, **options: Unpack[SpawnOptions]) -> SpawnedChild:
        """Register a child that calls no handler: it is done when its turn and time come.

        Takes the options of `spawn`.
        """


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
