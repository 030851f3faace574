"""The messages about nodes that the worker's main process has received and not finished."""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from backbeat_celery.engine.claim import NodeMessage


class Deliveries:
    """Messages about nodes, for as long as Celery holds their requests."""

    def __init__(self) -> None:
        self._messages: WeakKeyDictionary[Any, NodeMessage] = WeakKeyDictionary()
        self._by_task_id: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self.events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        """Calls of `worker_events` for the thread that renews leases."""

    def add(self, request: Any, message: NodeMessage | None) -> None:
        """Remember a request that the worker has received."""
        if message is not None:
            self._messages[request] = message
            self._by_task_id[request.id] = request

    def named(self, task_id: str) -> NodeMessage | None:
        """Give the message with a Celery task id."""
        request = self._by_task_id.get(task_id)
        return None if request is None else self._messages.get(request)

    def of(self, requests: list[Any]) -> list[NodeMessage]:
        """Give the messages of those requests that are about nodes, one for each node."""
        known = [self._messages[request] for request in requests if request in self._messages]
        return [single for message in known for single in message.each()]

    def report(self, event: Callable[[NodeMessage], None], message: NodeMessage) -> None:
        """Queue an event for the thread: the event loop must not wait for a database."""
        for single in message.each():
            self.events.put(partial(event, single))


deliveries = Deliveries()
