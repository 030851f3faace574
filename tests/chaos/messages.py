"""Messages on the broker as an operator, or an accident, can handle them."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import Any

from amqp.exceptions import ChannelError
from celery import current_app
from kombu import Producer
from kombu.exceptions import OperationalError

Raw = tuple[Any, dict[str, Any]]
MOST_KEPT = 5000


class Messages:
    """Takes messages off the queue and puts them back doubled, late or both."""

    def __init__(self) -> None:
        self.kept: list[Raw] = []
        """Some that were once on the queue, for replays."""

    @property
    def queue(self) -> str:
        return str(current_app.conf.task_default_queue)

    def depth(self) -> int:
        """How many messages are on the queue."""
        # A queue that Redis does not hold is empty.
        with (
            suppress(OperationalError, OSError, ChannelError),
            current_app.connection_for_read() as c,
        ):
            channel = c.default_channel
            return int(channel.queue_declare(self.queue, passive=True).message_count)
        return 0

    def take(self, most: int) -> list[Raw]:
        """Take messages off the queue."""
        taken: list[Raw] = []
        with current_app.connection_for_read() as c:
            queue = current_app.amqp.queues[self.queue](c.default_channel)
            while len(taken) < most and (message := queue.get(no_ack=True)) is not None:
                taken.append(_raw(message))
        room = MOST_KEPT - len(self.kept)
        self.kept += taken[: max(room, 0)]
        return taken

    def put(self, messages: list[Raw]) -> None:
        """Put messages on the queue as they were."""
        with current_app.connection_for_write() as c:
            producer = Producer(c.default_channel, auto_declare=False)
            for body, properties in messages:
                producer.publish(body, exchange="", routing_key=self.queue, **properties)

    def purge(self) -> int:
        """Lose whatever is on the queue."""
        with current_app.connection_for_write() as c:
            return int(c.default_channel.queue_purge(self.queue) or 0)

    def replay(self, rng: random.Random, count: int) -> int:
        """Put some on the queue that were there once before."""
        old = rng.sample(self.kept, min(count, len(self.kept)))
        self.put(old)
        return len(old)

    def drained(self, seconds: float) -> bool:
        """Wait until the queue is empty."""
        deadline = time.monotonic() + seconds
        while self.depth():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True


def _raw(message: Any) -> Raw:
    properties = {
        "headers": dict(message.headers or {}),
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
    }
    for name in ("correlation_id", "priority"):
        if value := message.properties.get(name):
            properties[name] = value
    return message.body, properties
