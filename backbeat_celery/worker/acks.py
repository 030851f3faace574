"""Acknowledge messages after the children of a prefork pool have received their next ones.

The event loop of such a worker first acknowledges what is done, then waits for an event, and then
gives an idle child its next message. With late acknowledgement the child waits for the broker,
which on Redis is a round trip for each message. So acknowledgements are deferred to the next
iteration of the loop, after the children have received their messages. A socket wakes the loop
at once.

If the worker dies in between, the messages are delivered again, and the claim refuses them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from backbeat_celery.runtime.compat.worker import event_loop_of, feeds_children, is_running, listen

Call = Callable[[], Any]


def can_defer(consumer: Any) -> bool:
    """Tell whether this worker's event loop gives messages to children.

    Other pools run a task in the loop itself, or in threads that fetch the next one themselves.
    """
    return feeds_children(consumer)


def defer(consumer: Any, call: Call) -> None:
    """Make a call in the next iteration of the event loop, or now if the loop has ended."""
    if not is_running(consumer):
        call()
        return
    hub = event_loop_of(consumer)
    deferred = _deferred.get(hub)
    if deferred is None:
        deferred = _deferred[hub] = DeferredCalls()
    deferred.add(hub, call)


class DeferredCalls:
    """Wakes an event loop through a socket pair, and then makes the deferred calls.

    The socket stays registered with the loop: to add and remove it for each message would cost
    more than the message does.
    """

    def __init__(self) -> None:
        self._waiting: list[Call] = []
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._fileno = self._receiver.fileno()

    def add(self, hub: Any, call: Call) -> None:
        """Make a call when the loop is woken."""
        listen(hub, self._fileno, self._make_calls)
        if not self._waiting:
            self._sender.send(b"1")
        self._waiting.append(call)

    def _make_calls(self) -> None:
        with suppress(BlockingIOError):
            self._receiver.recv(64)
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


_deferred: WeakKeyDictionary[Any, DeferredCalls] = WeakKeyDictionary()
