"""Acknowledge messages after the children of a prefork pool have got their next ones.

The event loop of such a worker first tells the broker what is done, then waits for something to
happen, and gives an idle child its next message when that wakes it. With late acknowledgement
the child waits for the broker, which on Redis is a round trip for each message. So what is to be
acknowledged waits until the loop was woken once more: behind what the children get, and never
longer, for a socket whose other end is closed wakes it at once.

Should the worker die in between, the messages come again, and the claim refuses them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from celery.bootsteps import RUN  # type: ignore[attr-defined]
from celery.concurrency.prefork import TaskPool

Call = Callable[[], Any]

_waiting: WeakKeyDictionary[Any, list[Call]] = WeakKeyDictionary()


def can_wait(consumer: Any) -> bool:
    """Tell whether this worker's event loop gives messages to children.

    Other pools run a task in the loop itself, or in threads that take the next one themselves.
    """
    return consumer.hub is not None and isinstance(consumer.pool, TaskPool)


def after_the_next_messages(consumer: Any, call: Call) -> None:
    """Call it when the event loop was woken once more, or now if the loop has ended."""
    if consumer.blueprint.state != RUN:
        call()
        return
    hub = consumer.hub
    _waiting.setdefault(hub, []).append(call)
    # Asked of the hub itself: after the loss of a broker it has forgotten all it listened to.
    if _socket_at_its_end().fileno() not in hub.readers:
        hub.add_reader(_socket_at_its_end(), _call_all, hub)


def _call_all(hub: Any) -> None:
    hub.remove(_socket_at_its_end())
    for call in _waiting.pop(hub, ()):
        call()


@cache
def _socket_at_its_end() -> socket.socket:
    """A socket that can always be read, and has nothing."""
    ours, other = socket.socketpair()
    other.close()
    return ours
