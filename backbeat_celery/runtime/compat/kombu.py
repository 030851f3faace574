"""kombu's undocumented names, and those that it does not have in every version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from kombu import Connection, Producer
from kombu.utils import compat

detect_environment: Callable[[], str] = compat.detect_environment
"""Without it greenlets could not be recognized: "default", "gevent" or "eventlet"."""


def in_batches(producer: Producer, size: int) -> AbstractContextManager[Any]:
    """Without `Producer.batch`, which is new in kombu 5.7, messages are sent one by one."""
    batch = getattr(producer, "batch", None)
    return batch(max_size=size) if batch else nullcontext()


class HeaderRecorder(Producer):
    """Stands in for a producer, and keeps the headers of what it is to publish.

    Without `_publish` and the order of its arguments, nodes would lose the headers that other
    packages add to a message: tenants, traces, request ids.
    """

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.__connection__ = _no_connection()  # type: ignore[misc]
        self.taken: dict[str, Any] | None = None

    def _publish(self, *message: Any, **_: Any) -> None:
        # Not `publish`, which libraries patch to add headers: those have to be added, too.
        self.taken = message[4]


@cache
def _no_connection() -> Connection:
    return Connection("memory://")
