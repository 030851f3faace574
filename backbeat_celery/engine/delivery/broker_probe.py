"""Ask the broker about a queue: how many messages and consumers it has.

The answer is waited for `TIMEOUT` seconds. A question without one is not asked again for
`COOLDOWN` seconds, so that a page or a sweep is never delayed for long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import ChannelError
from celery import Celery

from backbeat_celery.runtime.compat.celery import app_in_use

logger = logging.getLogger(__name__)

TIMEOUT = 1.0
"""Seconds to wait for an answer."""

COOLDOWN = 10.0
"""Seconds that a question without an answer is not asked again."""

COUNTS_CONSUMERS = frozenset({"amqp"})
"""Transports that know the consumers of a queue."""

COUNTS_MESSAGES = frozenset({"amqp", "redis"})
"""Transports that know at once how many messages a queue has."""

NOT_FOUND = "404"
_TIMEOUTS = dict.fromkeys(
    (
        "connect_timeout",
        "read_timeout",
        "write_timeout",
        # Redis's names for the same.
        "socket_connect_timeout",
        "socket_timeout",
    ),
    TIMEOUT,
)


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker says about a queue."""

    name: str
    exists: bool = True
    consumers: int = 0
    messages: int = 0


class BrokerProbe:
    """Asks the broker of the current app.

    Each question has a thread of its own: name lookups and handshakes have no timeout.
    """

    def __init__(self) -> None:
        self._ask_again_at: dict[Collection[str], float] = {}

    def queue(self, name: str) -> QueueState | None:
        """Describe a queue; None if the transport does not know consumers, or on a timeout."""
        return self._ask(name, COUNTS_CONSUMERS)

    def count_messages(self, queue: str) -> int | None:
        """Count the messages that no worker has received; None if unknown, or on a timeout."""
        state = self._ask(queue, COUNTS_MESSAGES)
        # On Redis an empty queue does not exist.
        return None if state is None else state.messages

    def _ask(self, queue: str, transports: Collection[str]) -> QueueState | None:
        if time.monotonic() < self._ask_again_at.get(transports, 0.0):
            return None
        answers: list[QueueState | None] = []
        question = (app_in_use(), queue, transports, answers)
        thread = threading.Thread(target=_ask, args=question, daemon=True)
        thread.start()
        thread.join(TIMEOUT)
        if not answers:
            self._ask_again_at[transports] = time.monotonic() + COOLDOWN
            return None
        return answers[0]


def _ask(
    app: Celery, queue: str, transports: Collection[str], answers: list[QueueState | None]
) -> None:
    try:
        answers.append(_queue_state(app, queue, transports))
    except Exception as exc:  # each transport has errors of its own; the caller goes on without
        logger.info("The broker does not answer: %r", exc)


def _queue_state(app: Celery, queue: str, transports: Collection[str]) -> QueueState | None:
    """Ask the broker; None if its transport is not one of these."""
    connection = app.connection_for_read(connect_timeout=TIMEOUT)
    if connection.transport.driver_type not in transports:
        return None
    connection.transport_options = {**(connection.transport_options or {}), **_TIMEOUTS}
    with connection:
        try:
            channel: Any = connection.channel()
            answer = channel.queue_declare(queue, passive=True)
        except ChannelError as exc:
            if str(exc.reply_code) != NOT_FOUND:
                raise
            return QueueState(queue, exists=False)
        return QueueState(queue, consumers=answer.consumer_count, messages=answer.message_count)


broker_probe = BrokerProbe()
