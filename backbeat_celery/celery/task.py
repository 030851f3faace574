"""Tasks that may run as nodes.

`NodeTask` is the base class to write; `make_node_capable` gives the same behaviour to any
other registered task. Both act only on a message that carries our header: called directly
or by `delay()`, the task is an ordinary Celery task.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn, cast

from celery import Celery, Task, shared_task
from celery.contrib.django.task import DjangoTask
from celery.exceptions import Retry

from backbeat_celery.celery.runner import begin, run_of
from backbeat_celery.exceptions import UnsupportedOption


class NodeBehaviour:
    """What makes a task able to run as a node: claim before, record after."""

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Claim the node; the one place where the handler can still be called off."""
        task = cast("Task[Any, Any]", self)
        run = begin(task)
        if run is not None:
            args, kwargs = run.claim.node.args, run.claim.node.kwargs
        super().before_start(task_id, args, kwargs)  # type: ignore[misc]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run = run_of(cast("Task[Any, Any]", self).request)
        if run is None or run.is_started:
            return super().__call__(*args, **kwargs)  # type: ignore[misc]
        return run.execute()

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Ask for a durable retry of the node; outside a node, Celery's own retry."""
        run = run_of(cast("Task[Any, Any]", self).request)
        if run is None:
            retry = super().retry(  # type: ignore[misc]
                args, kwargs, exc, throw, eta, countdown, max_retries, **options
            )
            return cast("Retry", retry)
        if args is not None or kwargs is not None or options:
            raise UnsupportedOption(
                "A node is retried with the arguments it has. Pass only exc, eta, countdown, "
                "throw and max_retries to self.retry()."
            )
        retry = run.ask_for_retry(exc, eta, countdown, max_retries)
        if throw:
            raise retry
        return retry

    def replace(self, sig: Any) -> NoReturn:
        """Refuse: a node cannot become another task; outside a node, Celery's own replace."""
        if run_of(cast("Task[Any, Any]", self).request) is None:
            super().replace(sig)  # type: ignore[misc]
        raise UnsupportedOption("A node cannot be replaced by another task; spawn it as a child.")


class NodeTask(NodeBehaviour, DjangoTask):
    """Base class of tasks that are written as nodes."""

    abstract = True
    # The claim drops what is delivered twice, so a message may stay unacknowledged while
    # its handler runs: RabbitMQ then redelivers it at once when the worker dies.
    acks_late = True
    reject_on_worker_lost = False
    ignore_result = True


def node_task(*args: Any, **options: Any) -> Any:
    """Turn a function into a task that is meant as a node: `@shared_task(base=NodeTask)`.

    Takes Celery's task options and `rescue`, `timeout`, `awaits_completion`, `atomic`, `mode`.
    """
    options.setdefault("base", NodeTask)
    decorator: Callable[..., Any] = shared_task
    return decorator(*args, **options)


def make_node_capable(app: Celery) -> None:
    """Let every registered task of an app run as a node, also those of other packages.

    Must come before Celery builds a task's tracer, which looks at the class once.
    """
    for task in app.tasks.values():
        cls = type(task)
        if not isinstance(task, NodeBehaviour) and not cls.__module__.startswith("celery."):
            task.__class__ = type(
                cls.__name__, (NodeBehaviour, cls), {"__module__": cls.__module__}
            )
