"""Celery's undocumented names that only a worker needs; other processes do not import this."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery.bootsteps import RUN  # type: ignore[attr-defined]
from celery.concurrency.prefork import TaskPool
from celery.worker.state import active_requests
from celery.worker.strategy import default as default_strategy

__all__ = ["active_requests", "default_strategy"]

# Requests: what a worker has taken ----------------------------------------------------


def headers_of(request: Any) -> dict[str, Any]:
    """Without `request_dict` no lease would be renewed: a delivery could not name its node."""
    headers: dict[str, Any] = request.request_dict
    return headers


def show_arguments(request: Any) -> None:
    """Without `_args` `inspect` and monitors would show a node's empty arguments."""
    request._args, request._kwargs = request.argsrepr, request.kwargsrepr


def child_of(request: Any) -> int | None:
    """Without `worker_pid` the node of a child that died would wait for the end of its lease."""
    pid: int | None = request.worker_pid
    return pid


def is_acknowledged(request: Any) -> bool:
    """Without `acknowledged` plain tasks that are done would count as nodes that are not."""
    return bool(request.acknowledged)


@contextmanager
def as_acknowledged(requests: Sequence[Any]) -> Iterator[None]:
    """Without `acknowledged` handlers of nodes would be ended when the broker is lost."""
    for request in requests:
        request.acknowledged = True
    try:
        yield
    finally:
        for request in requests:
            request.acknowledged = False


# The worker and its consumer ----------------------------------------------------------


def module_of_pool(worker: Any) -> str:
    """Without `pool_cls` our threads would stand still in the gevent pool while a handler runs."""
    return str(getattr(worker.pool_cls, "__module__", worker.pool_cls))


def queues_of(worker: Any) -> list[str]:
    """Without these attributes the admin could not show which queues a worker listens to."""
    consumer = getattr(getattr(worker, "consumer", None), "task_consumer", None)
    selected = worker.app.amqp.queues.consume_from.values()
    return sorted({str(queue.name) for queue in (consumer.queues if consumer else selected)})


def around_cold_shutdown(consumer: Any, call: Callable[[Callable[[], None]], None]) -> None:
    """Without `cancel_active_requests` a cold shutdown would use up a retry of each node."""
    consumer.cancel_active_requests = partial(call, consumer.cancel_active_requests)


def around_connection_loss(
    consumer: Any, call: Callable[[Callable[[Any], None], Any], None]
) -> None:
    """Without this method handlers of nodes would be ended when the broker is lost."""
    lost = consumer.on_connection_error_after_connected
    consumer.on_connection_error_after_connected = partial(call, lost)


# The event loop of the prefork pool ---------------------------------------------------


def feeds_children(consumer: Any) -> bool:
    """Without `hub` and `TaskPool` an acknowledgement would delay a child's next message."""
    return consumer.hub is not None and isinstance(consumer.pool, TaskPool)


def event_loop_of(consumer: Any) -> Any:
    """Without `hub` an acknowledgement would delay a child's next message."""
    return consumer.hub


def is_running(consumer: Any) -> bool:
    """Without `blueprint.state` an acknowledgement would wait for a loop that has ended."""
    return bool(consumer.blueprint.state == RUN)


def listen(hub: Any, fileno: int, callback: Callable[[], None]) -> None:
    """Without `readers` and `add_reader` nothing would be acknowledged after a loss of the broker.

    A hub has then forgotten all it listened to.
    """
    if fileno not in hub.readers:
        hub.add_reader(fileno, callback)
