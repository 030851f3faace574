"""The interface of the running node, which `current_node()` gives to a handler."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, Unpack
from uuid import UUID

from backbeat_celery.exceptions import NotInNode

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from backbeat_celery.models import Node
    from backbeat_celery.states import Mode
    from backbeat_celery.typing import FlagOptions, Rescue, SpawnOptions, TaskOrSignature


class SpawnedChild:
    """A child that the running handler has registered; it starts when the attempt succeeds.

    `id` is the id of its node, which is written to the database then.
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
        """The id of the parent; for a signal it is the workflow's id."""

    @property
    def subject(self) -> str:
        """The workflow's subject as text; a model instance is `app.model:pk`."""

    @property
    def name(self) -> str:
        """The node's name, by default the name of its task."""

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
        """Give a signed token that permits to report this attempt's result once.

        It is safe in a URL. `complete_by_token()` and `fail_by_token()` take it.
        """

    def is_wanted(self) -> bool:
        """Tell whether this attempt's result would still be accepted; makes one query."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report the progress of this attempt; cheap enough to call for each item of a loop.

        `done` and `total` are not negative; `message` is shortened to 255 characters. About one
        call in a second is written to `Node.progress`. Raises BadInput for other values.
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
        max_retries: int | None = None,
        rescue: Rescue | None = None,
    ) -> SpawnedChild:
        """Register a child, recorded and started when this attempt succeeds.

        `signature` is a task or its signature. `mode` is by default the task's, else blocking.
        A `barrier` waits for all earlier children that count. `delay` is in seconds or a
        timedelta, `fires_at` an aware datetime. A `key` is unique among the children of this node.
        `max_retries` and `rescue` come before those of the task.

        Raises BadInput for arguments that cannot be used.
        """

    def spawn_many(
        self, signatures: Iterable[TaskOrSignature], **options: Unpack[SpawnOptions]
    ) -> list[SpawnedChild]:
        """Register a child for each signature, all with the same options as `spawn` takes."""

    def result_of(self, node: SpawnedChild | Node | UUID) -> Any:
        """Give the value of a finished node of the same workflow: a child, or a sibling.

        Raises NotFinished before it is finished, NoValue if it was canceled, BadInput for a node
        of another workflow.
        """

    def add_to_chord(self, signature: TaskOrSignature) -> SpawnedChild:
        """Add a member to the header of a chord that this node is in, at once.

        A retry of the attempt does not add it again. Raises ValueError outside of a chord.
        """

    def flag(self, name: str, **options: Unpack[FlagOptions]) -> SpawnedChild:
        """Register a child without a handler: it completes when it is its turn and it is due.

        Takes the options of `spawn`, but for `max_retries` and `rescue`.
        """


running: ContextVar[CurrentNode | None] = ContextVar("backbeat_running_node", default=None)


def current_node() -> CurrentNode:
    """Give the node whose handler calls this; raise NotInNode anywhere else."""
    node = running.get()
    if node is None:
        raise NotInNode(
            "No node is running here. current_node() works only inside a handler that was started "
            "by signal() or spawn(), not in a task called directly or by apply_async()."
        )
    return node
