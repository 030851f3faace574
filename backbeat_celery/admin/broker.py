"""How many messages wait at the broker, where it can tell, within a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery import Celery

from backbeat_celery.engine.delivery.broker_probe import PATIENCE, Patience

SILENT = frozenset({"sqla", "sqlalchemy", "memory", "filesystem"})
"""Transports that cannot tell, or tell it slowly."""


@dataclass(frozen=True, slots=True)
class Depth:
    """The messages that nobody has taken yet."""

    queue: str
    messages: int


class Asker:
    """Asks the broker how long the default queue is."""

    def __init__(self) -> None:
        self._patience = Patience()

    def ask(self) -> Depth | None:
        """Give the depth of the default queue; None if the broker cannot tell, or not soon."""
        return self._patience.ask(_depth)


asker = Asker()


def _depth(app: Celery) -> Depth | None:
    if str(app.connection_for_read().transport_cls) in SILENT:
        return None
    with app.connection_for_read(connect_timeout=PATIENCE) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
        channel: Any = connection.default_channel
        queue = str(app.conf.task_default_queue)
        declared = channel.queue_declare(queue=queue, passive=True)
        return Depth(queue, int(declared.message_count))
