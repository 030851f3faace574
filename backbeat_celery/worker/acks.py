"""Acknowledge messages after the children of a prefork pool have got their next ones.

The event loop of such a worker first tells the broker what is done, then waits for something to
happen, and gives an idle child its next message when that wakes it. With late acknowledgement
the child waits for the broker, which on Redis is a round trip for each message. So what is to be
acknowledged waits until the loop was woken once more: behind what the children get, and never
longer, for a socket wakes it at once.

Should the worker die in between, the messages come again, and the claim refuses them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from backbeat_celery.runtime.compat.worker import event_loop_of, feeds_children, is_running, listen

Call = Callable[[], Any]


def can_wait(consumer: Any) -> bool:
    """Tell whether this worker's event loop gives messages to children.

    Other pools run a task in the loop itself, or in threads that take the next one themselves.
    """
    return feeds_children(consumer)


def after_the_next_messages(consumer: Any, call: Call) -> None:
    """Call it when the event loop was woken once more, or now if the loop has ended."""
    if not is_running(consumer):
        call()
        return
    hub = event_loop_of(consumer)
    bell = _bells.get(hub)
    if bell is None:
        bell = _bells[hub] = Bell()
    bell.ring_for(hub, call)


class Bell:
    """Wakes an event loop once more, and then makes the calls that wait for that.

    Both ends of a socket, which stays among what the loop listens to: to add and to remove one
    for each message would cost the loop more than the message does.
    """

    def __init__(self) -> None:
        self._waiting: list[Call] = []
        self._loops_end, self._our_end = socket.socketpair()
        self._loops_end.setblocking(False)
        self._fileno = self._loops_end.fileno()

    def ring_for(self, hub: Any, call: Call) -> None:
        """Make a call when the loop was woken."""
        listen(hub, self._fileno, self._answer)
        if not self._waiting:
            self._our_end.send(b"1")
        self._waiting.append(call)

    def _answer(self) -> None:
        with suppress(BlockingIOError):
            self._loops_end.recv(64)
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


_bells: WeakKeyDictionary[Any, Bell] = WeakKeyDictionary()
