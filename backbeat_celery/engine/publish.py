"""Publish what is due: put messages on the broker that say "look at this node now".

The row is the outbox. A message may be lost or doubled; the row says that work is due, and
the claim drops doubles. So publishing is tried once and never blocks for long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID, uuid4

from celery import Celery, current_app
from django.db import transaction
from kombu import Connection, Producer, pools
from kombu.exceptions import OperationalError

from backbeat_celery import clock, points
from backbeat_celery.engine.wake import Publication
from backbeat_celery.models import Node

logger = logging.getLogger(__name__)

HEADER = "backbeat"
"""The message header that carries node, attempt and database."""

CONNECT_SECONDS = 1
BREATHER_SECONDS = 2
GIVE_UP_SOON = {
    "max_retries": 0,
    "interval_start": 0,
    "connect_retries_timeout": CONNECT_SECONDS,
    # Redis and AMQP, each by its own names: a broker that accepts and says nothing.
    "socket_connect_timeout": CONNECT_SECONDS,
    "socket_timeout": CONNECT_SECONDS,
    "read_timeout": CONNECT_SECONDS,
    "write_timeout": CONNECT_SECONDS,
}
REST_SECONDS = 2
"""How long a broker that failed is left alone: a request may send many signals."""
RECONNECT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class Outbox(Protocol):
    """Where messages go: the broker, or the Simulation's own queue."""

    def send(self, publications: Sequence[Publication], using: str) -> None:
        """Send messages; what cannot be sent now is sent again by the sweeper."""

    def after_commit(self, function: Callable[[], None], using: str) -> None:
        """Call `function` once the current transaction is committed."""


class BrokerOutbox:
    """Sends messages through Celery's broker."""

    def __init__(self) -> None:
        self._try_again_at = 0.0

    def send(self, publications: Sequence[Publication], using: str) -> None:
        points.reached("before_publish")
        sent = 0
        try:
            if time.monotonic() < self._try_again_at:
                raise OperationalError("the broker did not answer a moment ago")
            with _producer(current_app) as producer:
                for publication in publications:
                    self._send_one(publication, using, producer)
                    sent += 1
        except Exception as exc:  # any transport's own errors; nothing is lost by it
            unsent = publications[sent:]
            logger.warning(
                "The broker did not take %d messages: %r. The sweeper sends them again.",
                len(unsent),
                exc,
            )
            self._note_trouble()
            make_due([publication.node_id for publication in unsent], using)
        points.reached("after_publish")

    def _send_one(self, publication: Publication, using: str, producer: Producer) -> None:
        errors: tuple[type[BaseException], ...] = (OperationalError, OSError)
        if producer.connection is not None:
            errors += producer.connection.connection_errors
        try:
            _send(publication, using, producer)
        except errors:
            raise
        except Exception:  # its own queue or priority; the others are none the worse
            logger.exception("Cannot send a message for node %s", publication.node_id)

    def _note_trouble(self) -> None:
        """Leave the broker alone for a while: each of a request's signals would wait for it."""
        now = time.monotonic()
        if now >= self._try_again_at:
            self._try_again_at = now + BREATHER_SECONDS

    def after_commit(self, function: Callable[[], None], using: str) -> None:
        transaction.on_commit(function, using=using, robust=True)


def make_due(node_ids: Sequence[UUID], using: str) -> None:
    """Let the sweeper publish these nodes at its next pass."""
    rows = Node.objects.using(using).filter(pk__in=node_ids).claimable()
    rows.update(publish_at=clock.now())


def _send(publication: Publication, using: str, producer: Producer) -> None:
    node = str(publication.node_id)
    current_app.send_task(
        publication.task,
        # The arguments are in the row: no secret lies about in the broker, and an operator
        # can correct them before a retry.
        args=(),
        kwargs={},
        # Each publication has an id of its own: a revoked id would be dropped for hours.
        task_id=str(uuid4()),
        producer=producer,
        headers={HEADER: {"node": node, "attempt": publication.attempt, "db": using}},
        countdown=publication.countdown or None,
        expires=None,
        ignore_result=True,
        argsrepr=publication.argsrepr,
        kwargsrepr=publication.kwargsrepr,
        retry=True,
        retry_policy=RECONNECT_ONCE,
        **publication.options,
    )


@contextmanager
def _producer(app: Celery) -> Iterator[Producer]:
    """Take a pooled producer whose connection gives up after about a second."""
    connection: Connection = app.connection_for_write(connect_timeout=CONNECT_SECONDS)
    if connection.transport_cls not in {"sqla", "sqlalchemy"}:
        # kombu's SQLAlchemy transport hands unknown options on to create_engine(), which fails.
        connection.transport_options = {**(connection.transport_options or {}), **GIVE_UP_SOON}
    with pools.producers[connection].acquire(block=True, timeout=CONNECT_SECONDS) as producer:
        yield producer


_outbox: Outbox = BrokerOutbox()


def outbox() -> Outbox:
    """Where messages go."""
    return _outbox


@contextmanager
def replaced_outbox(replacement: Outbox) -> Iterator[None]:
    """Send messages elsewhere."""
    global _outbox
    previous, _outbox = _outbox, replacement
    try:
        yield
    finally:
        _outbox = previous
