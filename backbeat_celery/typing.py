"""Types for a project that has itself type-checked; nothing here does anything at run time.

Celery itself has no types. With `celery-types` installed a node's task is also its `Task[P, R]`;
without it what is declared here is still checked, and all else that comes from Celery is `Any`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, Protocol, TypedDict

if TYPE_CHECKING:
    from celery import Task
    from celery.canvas import Signature
    from celery.contrib.django.task import DjangoTask
    from celery.exceptions import Retry
    from celery.result import AsyncResult
    from kombu import Exchange, Queue
    from typing_extensions import ParamSpec, TypeVar

    from backbeat_celery.states import Mode

    # The defaults let `NodeTask` alone stand for a task with any signature.
    P = ParamSpec("P", default=...)
    R_co = TypeVar("R_co", covariant=True, default=Any)
    SelfT = TypeVar("SelfT", bound=Task[..., Any])
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R_co = TypeVar("R_co", covariant=True)
    SelfT = TypeVar("SelfT")


class HasUsername(Protocol):
    """A user of Django, of whatever model."""

    def get_username(self) -> str: ...


class TaskWithoutArguments(Protocol):
    """A task that can be called without arguments, and so needs no signature."""

    @property
    def name(self) -> str: ...
    def delay(self) -> Any: ...


class SignatureLike(Protocol):
    """A signature of Celery, told by a method that nothing else has."""

    def set_immutable(self, immutable: bool) -> Any: ...


TaskOrSignature = SignatureLike | TaskWithoutArguments
"""What can be sent or spawned: `task.s(...)`, or a task that needs no arguments."""

if TYPE_CHECKING:
    Rescue = SignatureLike | Task[..., Any] | str
    """What is called when a node has failed: it takes the node's id, so no task is excluded."""

Actor = HasUsername | str | None
"""Who steers: a user, or a text."""


class FlagOptions(TypedDict, total=False):
    """The options of `flag`."""

    mode: Mode | str | None
    barrier: bool
    fires_at: datetime | None
    delay: float | timedelta | None
    key: str | None
    metadata: dict[str, Any] | None


class SpawnOptions(FlagOptions, total=False):
    """The options of `spawn`, which `spawn_many` and `Node.add_child` take as well."""

    max_retries: int | None
    rescue: Rescue | None


class TreeOptions(TypedDict, total=False):
    """What is shown of a tree: at most so many nodes, or those that match and what is above."""

    limit: int
    statuses: Collection[str]
    task: str


class TaskOptions(TypedDict, total=False):
    """The options of `node_task`, but for `bind` and `base`: first ours, then Celery's.

    Durations are seconds or a timedelta.
    """

    timeout: float | timedelta | None
    atomic: bool
    mode: Mode | str | None
    bundle: int | None
    rescue: Task[..., Any] | str | None
    awaits_completion: bool
    input: Literal["lazy"] | None

    name: str
    max_retries: int | None
    default_retry_delay: float | timedelta
    autoretry_for: Collection[type[BaseException]]
    dont_autoretry_for: Collection[type[BaseException]]
    retry_kwargs: Mapping[str, Any] | None
    retry_backoff: bool | float | timedelta
    retry_backoff_max: float | timedelta
    retry_jitter: bool
    throws: type[BaseException] | tuple[type[BaseException], ...]
    time_limit: float | timedelta | None
    soft_time_limit: float | timedelta | None
    rate_limit: str | float | None
    priority: int | None
    queue: str | Queue | None
    exchange: str | Exchange | None
    routing_key: str | None
    compression: str | None
    serializer: str
    expires: float | datetime | None
    acks_late: bool
    acks_on_failure_or_timeout: bool
    reject_on_worker_lost: bool | None
    ignore_result: bool
    store_eager_result: bool
    store_errors_even_if_ignored: bool
    resultrepr_maxsize: int
    track_started: bool
    send_events: bool
    trail: bool
    typing: bool
    autoregister: bool
    shared: bool
    lazy: bool
    pydantic: bool
    pydantic_strict: bool
    pydantic_context: dict[str, Any] | None
    pydantic_dump_kwargs: dict[str, Any] | None


if TYPE_CHECKING:
    Handler = Callable[P, R_co]
    BoundHandler = Callable[Concatenate[SelfT, P], R_co]

    class TypedTask(DjangoTask[P, R_co], Generic[P, R_co]):
        """A task that keeps the signature of its handler, wherever arguments are given."""

        # Options that a class may set; `celery-types` declares the others.
        timeout: float | timedelta | None
        atomic: bool
        mode: Mode | str | None
        bundle: int | None
        rescue: Task[..., Any] | str | None
        awaits_completion: bool
        autoretry_for: Collection[type[BaseException]]
        dont_autoretry_for: Collection[type[BaseException]]
        retry_kwargs: Mapping[str, Any] | None
        retry_backoff: bool | float | timedelta
        retry_backoff_max: float | timedelta
        retry_jitter: bool
        queue: str | Queue | None
        exchange: str | Exchange | None
        routing_key: str | None
        compression: str | None

        name: str

        # Partial arguments, which `celery-types` allows to `s`, are for a canvas, and no canvas
        # is a node: write `task.signature(...)` for those.
        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
        def run(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
        def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R_co]: ...
        def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R_co]: ...
        def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R_co]: ...
        def signature(
            self,
            args: Sequence[Any] | None = None,
            kwargs: Mapping[str, Any] | None = None,
            *,
            immutable: bool = ...,
            countdown: float | None = ...,
            eta: datetime | None = ...,
            queue: str | Queue | None = ...,
            priority: int | None = ...,
            headers: Mapping[str, Any] | None = ...,
            **options: Any,
        ) -> Signature[R_co]: ...
        def apply_async(  # type: ignore[override]
            self,
            args: Sequence[Any] | None = None,
            kwargs: Mapping[str, Any] | None = None,
            task_id: str | None = None,
            *,
            countdown: float | None = ...,
            eta: datetime | None = ...,
            expires: float | datetime | None = ...,
            queue: str | Queue | None = ...,
            priority: int | None = ...,
            headers: Mapping[str, Any] | None = ...,
            **options: Any,
        ) -> AsyncResult[R_co]: ...
        # It gives nothing: the message is sent later.
        def delay_on_commit(  # type: ignore[override]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> None: ...
        def retry(
            self,
            args: tuple[Any, ...] | None = None,
            kwargs: dict[str, Any] | None = None,
            exc: Exception | None = None,
            throw: bool = True,
            eta: datetime | None = None,
            countdown: float | timedelta | None = None,
            max_retries: int | None = None,
            **options: Any,
        ) -> Retry: ...
