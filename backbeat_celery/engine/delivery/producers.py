"""Producers with short timeouts, pooled by kombu for each broker."""

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

TIMEOUT = 1
SHORT_TIMEOUTS = {
    "max_retries": 0,
    "interval_start": 0,
    "connect_retries_timeout": TIMEOUT,
    # Redis's and AMQP's names for the timeout of a broker that does not answer.
    "socket_connect_timeout": TIMEOUT,
    "socket_timeout": TIMEOUT,
    "read_timeout": TIMEOUT,
    "write_timeout": TIMEOUT,
}


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker with its connection, by which kombu finds the pool, and its templates."""

    address: Any
    connection: Connection
    templates: Templates

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        """Acquire a pooled producer whose connection times out after about a second."""
        pool = pools.producers[self.connection]
        with pool.acquire(block=True, timeout=TIMEOUT) as producer:
            yield producer


_brokers: WeakKeyDictionary[Celery, Broker] = WeakKeyDictionary()


def current_broker() -> Broker:
    """Give the broker of the current app; a new one if its address has changed."""
    app = app_in_use()
    conf = app.conf
    options = dict(conf.broker_transport_options)
    address = (conf.broker_write_url, options, conf.task_default_queue)
    known = _brokers.get(app)
    if known is not None and known.address == address:
        return known
    connection: Connection = app.connection_for_write(connect_timeout=TIMEOUT)
    if connection.transport_cls not in {"sqla", "sqlalchemy"}:
        # kombu's SQLAlchemy transport passes unknown options to create_engine(), which raises.
        connection.transport_options = {**(connection.transport_options or {}), **SHORT_TIMEOUTS}
    _brokers[app] = Broker(address, connection, Templates())
    return _brokers[app]
