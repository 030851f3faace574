"""Ask the broker about its queues, for about a second: RabbitMQ tells who listens to one."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

from amqp.exceptions import ChannelError
from celery import Celery
from celery.exceptions import NotConfigured

from backbeat_celery.inputs.policy import sent_options
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.runtime.compat.celery import app_in_use, is_made_up, route_of

logger = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = 1.0
"""Seconds that an answer is waited for."""

REST = 10.0
"""Seconds that a broker which gave no answer is not asked again."""

KNOWING = frozenset({"amqp"})
"""Transports that know who listens to a queue."""

TELLING = frozenset({"amqp", "redis"})
"""Transports that tell at once how many messages wait."""

NOT_FOUND = "404"
_SOON = {
    **{"connect_timeout": PATIENCE, "read_timeout": PATIENCE, "write_timeout": PATIENCE},
    **{"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE},
}


@dataclass(frozen=True, slots=True)
class QueueState:
    """What the broker knows of a queue."""

    name: str
    exists: bool = True
    consumers: int = 0
    messages: int = 0


def app_trouble() -> str:
    """Say that this process has no Celery app of the project's; empty if it has one.

    Whoever has imported none works with an app that Celery makes up, which knows no broker.
    """
    app = app_in_use()
    if not is_made_up(app):
        return ""
    with warnings.catch_warnings(action="ignore", category=NotConfigured):
        if app.conf.broker_write_url:
            return ""
    return (
        "No Celery app of the project is imported in this process, so that messages go to "
        "Celery's default broker, amqp://guest@localhost//"
    )


ADVICE = "Import it in the package of the settings: `from .celery import app` in its __init__.py."


@cache
def warn_without_app() -> None:
    """Log once a process that its messages go to the wrong broker."""
    if problem := app_trouble():
        logger.warning("%s. %s", problem, ADVICE)


class Patience:
    """Asks the broker in a thread: name lookups and handshakes heed no time limit of ours."""

    def __init__(self) -> None:
        self._ask_again_at = 0.0

    def ask(self, question: Callable[[Celery], T | None]) -> T | None:
        """Give the answer; None if the broker cannot say, or not soon.

        One that was silent is left alone for a while.
        """
        if time.monotonic() < self._ask_again_at:
            return None
        app = app_in_use()
        answers: list[T | None] = []
        asking = threading.Thread(target=_ask, args=(app, question, answers), daemon=True)
        asking.start()
        asking.join(PATIENCE)
        if not answers:
            self._ask_again_at = time.monotonic() + REST
            return None
        return answers[0]


def _ask(app: Celery, question: Callable[[Celery], T | None], answers: list[T | None]) -> None:
    try:
        answers.append(question(app))
    except Exception as exc:  # any transport's own errors; whoever asks goes on without
        logger.info("The broker does not answer: %r", exc)


class Inquiry:
    """Asks the broker about queues."""

    def __init__(self) -> None:
        self._patience = Patience()

    def ask(self, queue: str) -> QueueState | None:
        """Give what the broker says of a queue; None if it cannot say, or not soon."""
        return self._patience.ask(partial(_state, queue=queue, transports=KNOWING))


class Depths:
    """Asks the broker how many messages wait on a queue."""

    def __init__(self) -> None:
        self._patience = Patience()

    def ask(self, queue: str) -> int | None:
        """Count those that no worker has taken; None if the broker cannot say, or not soon."""
        state = self._patience.ask(partial(_state, queue=queue, transports=TELLING))
        # A queue that Redis does not hold is empty.
        return None if state is None else state.messages


inquiry = Inquiry()
depths = Depths()


def queue_of(task: str, options: dict[str, Any]) -> str:
    """Name the queue that a node's message is sent to; empty if only the broker knows."""
    known = known_task(task)
    # As send_task() reads them: the author's for the task, then those of this call.
    own = {} if known is None else sent_options(known)
    route = route_of(app_in_use(), {**own, **options}, task, known)
    queue = route.get("queue")
    return str(getattr(queue, "name", queue) or "")


def known_queue(task: str, options: dict[str, Any]) -> str:
    """Name the queue of a node's message; empty if only the broker knows it, or nobody."""
    try:
        return queue_of(task, options)
    except Exception:  # a router of the project's own, or options that no router takes
        return ""


def _state(app: Celery, queue: str, transports: Collection[str]) -> QueueState | None:
    """What the broker says of a queue; None if its transport is not one of these."""
    connection = app.connection_for_read(connect_timeout=PATIENCE)
    if connection.transport.driver_type not in transports:
        return None
    connection.transport_options = {**(connection.transport_options or {}), **_SOON}
    with connection:
        try:
            channel: Any = connection.channel()
            answer = channel.queue_declare(queue, passive=True)
        except ChannelError as exc:
            if str(exc.reply_code) != NOT_FOUND:
                raise
            return QueueState(queue, exists=False)
        return QueueState(queue, consumers=answer.consumer_count, messages=answer.message_count)
