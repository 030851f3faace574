"""Celery's undocumented names, and billiard's, that any process may need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import FunctionType, ModuleType
from typing import Any

from billiard import common
from celery import Celery, Task, signals
from celery._state import get_current_app
from celery.app import amqp as celery_amqp
from celery.app import base as celery_base
from celery.app import task as celery_task
from celery.app.routes import MapRoute
from celery.app.task import Context
from celery.app.trace import build_tracer
from celery.app.trace import logger as trace_logger
from celery.loaders.default import Loader as DefaultLoader
from celery.utils.functional import arity_greater
from kombu import Producer
from kombu import messaging as kombu_messaging

__all__ = ["app_in_use", "build_tracer", "trace_logger"]

app_in_use: Callable[[], Celery] = get_current_app
"""Without it each question to the app would go through a proxy, which is slower."""

# The app ------------------------------------------------------------------------------


def tasks_of(app: Celery) -> Mapping[str, Task[Any, Any]]:
    """Without `tasks` among the app's variables each signal would take a lock several times."""
    found: Mapping[str, Task[Any, Any]] = vars(app).get("tasks") or app.tasks
    return found


def amqp_of(app: Celery) -> Any:
    """Without `amqp` among the app's variables each signal would take a lock."""
    return vars(app).get("amqp") or app.amqp


def import_task_modules(app: Celery) -> None:
    """Without this method of the loader a web process would know only the tasks it imported."""
    app.loader.import_default_modules()


def is_made_up(app: Celery) -> bool:
    """Without these a process without the project's app would not be warned."""
    return isinstance(app.loader, DefaultLoader) and app.main == "default"


def route_of(
    app: Celery, options: Mapping[str, Any], name: str, task: Any = None
) -> Mapping[str, Any]:
    """Without `router.route` the queue of a node could not be named before it is sent."""
    found: Mapping[str, Any] = app.amqp.router.route(dict(options), name, (), {}, task)
    return found


def routes_by_name_only(app: Celery) -> bool:
    """Without `MapRoute` a router that depends on arguments would be asked once for many nodes."""
    return all(isinstance(route, MapRoute) for route in app.amqp.routes)


def running_task(app: Celery) -> Any:
    """Without `current_worker_task` Celery's line about a failed node would be a second error."""
    return app.current_worker_task


def parent_ids(app: Celery) -> tuple[Any, Any]:
    """Without `current_worker_task` copies of a message would not name who sent them."""
    parent = app.current_worker_task
    if parent is None:
        return None, None
    request = parent.request
    # The request of a step in a canvas would read its own ids from the rows.
    return vars(request).get("root_id") or request.id, request.id


def sends_stamps(app: Celery) -> bool:
    """Without `current_worker_task` copies of a message would lose the sender's stamps."""
    parent = app.current_worker_task
    return bool(parent and parent.request.stamped_headers)


# Tasks --------------------------------------------------------------------------------


def handler_of(task: Task[Any, Any]) -> Callable[..., Any]:
    """Without `_orig_run` a task with `autoretry_for` would be retried through the broker."""
    handler: Callable[..., Any] = getattr(task, "_orig_run", task.run)
    return handler


def decorated_function(task: Task[Any, Any]) -> Callable[..., Any] | None:
    """Without `_decorated_fun` an async handler that something wraps would be accepted.

    Celery has it from 5.7 on. What such a handler returns is refused when it runs.
    """
    found: Callable[..., Any] | None = getattr(task, "_decorated_fun", None)
    return found


def is_made_of_a_function(own: Mapping[str, Any]) -> bool:
    """Without `_decorated` a class that Celery makes would be checked too early."""
    return "_decorated" in own


def argument_check(task: Task[Any, Any] | None) -> Callable[..., Any] | None:
    """Without `__header__` a call with wrong arguments would be refused only by the worker."""
    found: Callable[..., Any] | None = getattr(task, "__header__", None)
    return found


def takes_more_than(function: Callable[..., Any], count: int) -> bool:
    """Without `arity_greater` error callbacks would be told apart by a rule of ours."""
    return bool(arity_greater(function, count))


def give_class(task: Task[Any, Any], cls: type[Any]) -> None:
    """Without tasks that are plain objects, those of other packages could not run as nodes.

    It must come before `build_tracer`, which reads the class once.
    """
    task.__class__ = cls


def class_of_all_tasks(app: Celery) -> type[Any]:
    """Without it `NodeTask` would lose what `Celery(task_cls=...)` gives to every task."""
    kind: type[Any] = app.Task.__mro__[1]
    return kind


headers_of_call: Callable[[Any], dict[str, Any]] = vars
"""Without headers among a request's variables no task call would know of its node."""

# Messages: protocol 2 -----------------------------------------------------------------

HEADERS = frozenset({*vars(Context), "lang", "task", "argsrepr", "kwargsrepr", "compression"})
"""Without these names a node would keep Celery's own headers as if the project had added them."""

HEADER_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "task", "root_id", "parent_id", "group", "shadow", "origin"), str),
    "timelimit": (list, tuple),
    "retries": int,
    "stamped_headers": (list, tuple),
    "stamps": dict,
}
"""Without these a header of another type would end the worker that reads it."""


def copied_message(
    options: Mapping[str, Any],
    own: Mapping[str, Any],
    task_id: str,
    above: tuple[Any, Any],
    shown: Mapping[str, str],
) -> dict[str, Any]:
    """Without this layout copies of a message would not be what Celery sends.

    `own` are the headers of this node, `above` the ids of root and parent, `shown` the texts of
    the arguments, which Celery puts into the headers and among the properties as well.
    """
    headers = {
        **options["headers"],
        **own,
        **shown,
        "id": task_id,
        "root_id": above[0] or task_id,
        "parent_id": above[1],
    }
    return {**options, **shown, "headers": headers, "correlation_id": task_id}


# Who adds to messages -----------------------------------------------------------------


def has_receivers(signal: Any) -> bool:
    """Without `receivers` headers that receivers add to messages would be lost."""
    return bool(signal.receivers)


def put_first(signal: Any) -> None:
    """Without `receivers` being a list, other receivers would see a message's empty arguments."""
    signal.receivers.insert(0, signal.receivers.pop())


def sends_plainly(app: Celery) -> bool:
    """Tell whether this app's messages are Celery's own: no receiver, override or patch.

    Without these methods in these modules each node would have a message made for its headers.
    """
    own = vars(app)  # Celery's properties are slow, and each signal asks this several times
    return (
        not signals.before_task_publish.receivers
        and "send_task" not in own
        and _is_from(celery_base, type(app).send_task)
        and _is_from(
            celery_amqp,
            type(amqp := amqp_of(app)).as_task_v2,
            amqp.send_task_message,
        )
    )


def calls_plainly(task: Task[Any, Any] | None) -> bool:
    """Tell whether the sending of this task is not overridden or patched."""
    calls = task is None or (
        "apply_async" not in vars(task) and _is_from(celery_task, type(task).apply_async)
    )
    return calls and _is_from(kombu_messaging, Producer.publish)


@lru_cache
def _is_from(module: ModuleType, *functions: Any) -> bool:
    for function in functions:
        # A wrapper may have all of the function's names, and not its globals.
        if type(function) is not FunctionType or function.__globals__ is not module.__dict__:
            return False
    return True


# The end of a child -------------------------------------------------------------------

_should_have_exited: list[bool] = common._should_have_exited  # type: ignore[attr-defined]


def is_terminated() -> bool:
    """Without billiard's flag a handler killed at its time limit would count as failed twice.

    `terminate_handler_fired()` of billiard 4.3 reads it; versions before have no function.
    """
    return _should_have_exited[0]
