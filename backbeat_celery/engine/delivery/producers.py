"""Producers for messages that nobody waits long for, pooled by kombu for each broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery
from kombu import Connection, Producer, pools

from backbeat_celery.engine.delivery.message_templates import Templates
from backbeat_celery.runtime.compat.celery import app_in_use

CONNECT_SECONDS = 1
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


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that messages go to: what kombu finds its pool by, and what can be copied."""

    address: Any
    connection: Connection
    templates: Templates

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        """Take a pooled producer whose connection gives up after about a second."""
        pool = pools.producers[self.connection]
        with pool.acquire(block=True, timeout=CONNECT_SECONDS) as producer:
            yield producer


_brokers: WeakKeyDictionary[Celery, Broker] = WeakKeyDictionary()


def current_broker() -> Broker:
    """The broker of the current app; another one when its address has changed."""
    app = app_in_use()
    conf = app.conf
    options = dict(conf.broker_transport_options)
    address = (conf.broker_write_url, options, conf.task_default_queue)
    known = _brokers.get(app)
    if known is not None and known.address == address:
        return known
    connection: Connection = app.connection_for_write(connect_timeout=CONNECT_SECONDS)
    if connection.transport_cls not in {"sqla", "sqlalchemy"}:
        # kombu's SQLAlchemy transport hands unknown options on to create_engine(), which fails.
        connection.transport_options = {**(connection.transport_options or {}), **GIVE_UP_SOON}
    _brokers[app] = Broker(address, connection, Templates())
    return _brokers[app]
