"""Tasks that may run as nodes.

`NodeTask` is the base class to write; `make_node_capable` gives the same behaviour to any
other registered task. Both act only on a message that carries our header: called directly
or by `delay()`, the task is an ordinary Celery task.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache, partial
from types import FunctionType, GenericAlias
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from celery import Celery, Task, shared_task
from celery.contrib.django.task import DjangoTask
from celery.exceptions import Retry
from celery.states import SUCCESS

from backbeat_celery.conf import seconds
from backbeat_celery.exceptions import UnsupportedOption
from backbeat_celery.inputs.foreign_tasks import SAFE_STRATEGY
from backbeat_celery.inputs.task_options import (
    DURATIONS,
    handler_problems,
    in_seconds,
    misspelt,
    plain_names,
    problems_of,
    refuse,
)
from backbeat_celery.runtime.compat.celery import (
    class_of_all_tasks,
    give_class,
    is_made_of_a_function,
)
from backbeat_celery.runtime.current_node import current_node as running_node
from backbeat_celery.typing import P, R_co
from backbeat_celery.worker import task_state
from backbeat_celery.worker.current_run import run_of

if TYPE_CHECKING:
    from backbeat_celery.typing import BoundHandler, Handler, SelfT, TaskOptions


def node_capable(cls: type[Any]) -> type[Any]:  # noqa: C901  (a class of short methods)
    """Derive a task class that claims before its handler and records after it.

    Ours is the outermost class, so that methods of `cls` which do not call `super()` still
    find a node that is claimed.
    """

    class NodeCapable(cls):  # type: ignore[misc]
        node_class = cls
        abstract = True
        Strategy = SAFE_STRATEGY if cls.Strategy == Task.Strategy else cls.Strategy
        # `NodeTask[[int], str]` in a class statement; Celery's own Task has it from 5.7 on.
        __class_getitem__: Any = classmethod(GenericAlias)

        def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
            """Claim the node; this is the last place at which the handler can be skipped."""
            before_start = partial(super().before_start, task_id)
            request = self.request
            run = run_of(request) or _begin(self, request)
            if run is None or run.is_started:
                before_start(args, kwargs)
            else:
                # After the claim every exception is a result, which `execute` records.
                run.before_handler = before_start

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
            run = run_of(self.request)
            if run is None or run.is_started:
                return super().__call__(*args, **kwargs)
            kind: Any = type(self)
            own_call = super().__call__ if _has_own_call(kind, ours) else None
            return run.execute(own_call)

        def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
            run = run_of(self.request)
            result = retval if run is None else run.result
            super().on_success(result, task_id, *_node_arguments(run, args, kwargs))

        def after_return(
            self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
        ) -> None:
            run = run_of(self.request)
            if run is not None and status == SUCCESS:
                retval = run.result
            arguments = _node_arguments(run, args, kwargs)
            super().after_return(status, retval, task_id, *arguments, einfo)

        def retry(
            self,
            args: Any = None,
            kwargs: Any = None,
            exc: Exception | None = None,
            throw: bool = True,
            eta: datetime | None = None,
            countdown: float | None = None,
            max_retries: int | None = None,
            **options: Any,
        ) -> Retry:
            """Request a durable retry of the node; outside a node, Celery's own retry."""
            run = run_of(self.request)
            if run is None:
                celery_retry: Retry = super().retry(
                    args, kwargs, exc, throw, eta, countdown, max_retries, **options
                )
                return celery_retry
            # An option that is None says nothing, as in Celery.
            given = (args, kwargs, *options.values())
            if any(value is not None for value in given):
                raise UnsupportedOption(
                    "A node is retried with the arguments it has. Pass only exc, eta, "
                    "countdown, throw and max_retries to self.retry().",
                    anchor="retries",
                )
            retry = run.request_retry(exc, eta, countdown, max_retries)
            if throw:
                raise retry
            return retry

        def update_state(
            self,
            task_id: str | None = None,
            state: str | None = None,
            meta: Any = None,
            **options: Any,
        ) -> None:
            """Also show the state as the node's progress."""
            if run_of(self.request) is not None and task_id in (None, self.request.id):
                task_state.report_progress(state, meta)
            super().update_state(task_id, state, meta, **options)

        def replace(self, sig: Any) -> Any:
            """Let the node have the value of a signature; outside of one, Celery's own replace.

            It returns only in eager mode, the value.
            """
            run = run_of(self.request)
            if run is not None:
                raise run.replace(sig)
            return super().replace(sig)

        def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
            """Add a member to the header that this node belongs to, or as Celery does."""
            if run_of(self.request) is None:
                return super().add_to_chord(sig, lazy)
            if lazy:
                raise UnsupportedOption(
                    "In a node add_to_chord() adds the member at once; leave out lazy=True.",
                    anchor="chord",
                )
            return running_node().add_to_chord(sig)

    ours: Any = NodeCapable
    NodeCapable.__name__ = cls.__name__
    NodeCapable.__qualname__ = cls.__qualname__
    NodeCapable.__module__ = cls.__module__
    NodeCapable.__doc__ = cls.__doc__
    return NodeCapable


def _begin(task: Any, request: Any) -> Any:
    # Task modules are imported before the models that the claim needs.
    from backbeat_celery.worker.begin import begin

    return begin(task, request)


def _node_arguments(run: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Give the arguments of the node's row, since its message has none."""
    return (args, kwargs) if run is None else (run.claim.node.args, run.claim.node.kwargs)


@cache
def _has_own_call(cls: type[Any], ours: type[Any]) -> bool:
    """Tell whether the task has a `__call__` of its own, which must call the handler."""
    for base in cls.__mro__[cls.__mro__.index(ours) + 1 :]:
        if base is Task:
            return False
        if "__call__" in vars(base) and "node_class" not in vars(base):
            return True
    return False


if TYPE_CHECKING:
    from backbeat_celery.typing import TypedTask
else:
    TypedTask = node_capable(DjangoTask)


class NodeTask(TypedTask[P, R_co]):
    """Base class of tasks that are written as nodes.

    In annotations `NodeTask[[int], str]` is a task that takes a number and gives a text, and
    `NodeTask` alone one with any signature.
    """

    abstract = True
    is_node_task = True
    # A second delivery claims nothing, so a message may stay unacknowledged while its
    # handler runs. RabbitMQ then redelivers it at once when the worker dies.
    acks_late = True
    reject_on_worker_lost = False
    ignore_result = True

    if TYPE_CHECKING:
        # Wider than in `celery-types`. mypy compares a task's attributes with those of its
        # direct base only, so these are declared here and not in TypedTask.
        default_retry_delay: float | timedelta  # type: ignore[assignment]
        time_limit: float | timedelta | None  # type: ignore[assignment]
        soft_time_limit: float | timedelta | None  # type: ignore[assignment]
        rate_limit: str | float | None  # type: ignore[assignment]

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a task what its app gives to every task, and refuse what no node could follow.

        The options of a class that Celery makes of a function are left to `signal()` and
        `check`: it is made whenever the app is first used, and what is raised there leaves an
        app half made.
        """
        super().__init_subclass__(**options)
        kind: type[Any] = cls  # a task is typed with a `__name__` of its own
        own, owner = vars(cls), kind.__name__
        for name in DURATIONS & own.keys():
            setattr(cls, name, seconds(own[name]))
        if "node_class" not in own and not is_made_of_a_function(own):
            problems = [*problems_of(owner, own), *misspelt(owner, plain_names(own))]
            refuse([*problems, *handler_problems(owner, cls.run)])
        # Celery sets the app on the class that it makes of a function.
        app = vars(cls).get("app")
        if isinstance(app, Celery) and not issubclass(NodeTask, class_of_all_tasks(app)):
            ours = tuple(base for base in cls.__bases__ if not issubclass(app.Task, base))
            cls.__bases__ = (*ours, app.Task)


@overload
def node_task(handler: Handler[P, R_co], /) -> NodeTask[P, R_co]: ...
@overload
def node_task(
    *, bind: Literal[False] = ..., base: type[Task[..., Any]] = ..., **options: Unpack[TaskOptions]
) -> Callable[[Handler[P, R_co]], NodeTask[P, R_co]]: ...
@overload
def node_task(
    *, bind: Literal[True], **options: Unpack[TaskOptions]
) -> Callable[[BoundHandler[NodeTask, P, R_co]], NodeTask[P, R_co]]: ...
@overload
def node_task(
    *, bind: Literal[True], base: type[SelfT], **options: Unpack[TaskOptions]
) -> Callable[[BoundHandler[SelfT, P, R_co]], NodeTask[P, R_co]]: ...


def node_task(*args: Any, **options: Any) -> Any:
    """Turn a function into a task that is meant as a node: `@shared_task(base=NodeTask)`.

    Takes Celery's task options and ours: `timeout`, `atomic`, `mode`, `bundle`, `rescue` and
    `awaits_completion`. Gives the task, or, called with options, a decorator. A type checker
    knows the task by the handler's signature, without `self` if `bind=True`.

    Raises BadInput for an option, or a handler, that no node could follow.
    """
    options.setdefault("base", NodeTask)
    owner = str(options.get("name") or getattr(args[0] if args else None, "__name__", "node_task"))
    refuse([*problems_of(owner, options), *misspelt(owner, options)])

    def decorated(handler: Callable[..., Any]) -> Any:
        refuse(handler_problems(getattr(handler, "__name__", owner), handler))
        return shared_task(**in_seconds(options))(handler)

    if len(args) == 1 and callable(args[0]):
        return decorated(args[0])
    if args:
        raise TypeError("node_task() takes options by name, and a function by itself.")
    return decorated


def is_node_capable(task: Any) -> bool:
    """Tell whether a task's class claims before its handler."""
    return getattr(task, "node_class", None) is not None


def make_node_capable(app: Celery) -> None:
    """Let every registered task of an app run as a node, also those of other packages.

    Must come before Celery builds a task's tracer, which reads the class once.
    """
    for task in app.tasks.values():
        cls = type(task)
        if not _is_covered(cls) and not task.name.startswith("celery."):
            give_class(task, node_capable(cls))


def _is_covered(cls: type[Any]) -> bool:
    """Tell whether a class is node capable and no subclass has overridden its methods."""
    ours = next((vars(base) for base in cls.__mro__ if "node_class" in vars(base)), None)
    return ours is not None and all(
        getattr(cls, name) is value
        for name, value in ours.items()
        if name == "Strategy" or isinstance(value, FunctionType)
    )
