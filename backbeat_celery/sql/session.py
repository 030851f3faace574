"""Run statements on the connection that Django has open.

What nothing observes goes to libpq itself, prepared once a connection, and what belongs
together in one round trip. Inside a transaction of Django's, under its query log or its
wrappers, with eventlet, and for tests that stop between two statements, the same ones go
through a cursor, so that observers see them and no greenlet is held up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from django.db import transaction

from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.compat.django import (
    ensure_usable,
    errors_as_django_has_them,
    is_observed,
    is_psycopg3,
)
from backbeat_celery.runtime.compat.kombu import detect_environment
from backbeat_celery.runtime.sessions import connection_to
from backbeat_celery.sql.statement import Call, Row, Statement

is_enabled = os.environ.get("BACKBEAT_PORTABLE", "") != "1"
"""Whether this process uses the statements of this package at all."""


def is_available(using: str) -> bool:
    """Tell whether a database takes these statements."""
    return is_enabled and connection_to(using).vendor == "postgresql" and is_psycopg3()


def execute(using: str, statement: Statement, *values: str | None) -> list[Row]:
    """Run a statement; give its rows as text."""
    return execute_all(using, [statement.call(*values)])[0]


def execute_all(
    using: str, *transactions: Sequence[Call], meanwhile: Callable[[], None] | None = None
) -> list[list[Row]]:
    """Run transactions one after another; give the rows of each of their calls, in order.

    `meanwhile` is called while the server is at work, unless statements are observed. It must
    raise nothing and touch no database.
    """
    from backbeat_celery.sql import driver

    connection: Any = connection_to(using)
    ensure_usable(connection)
    if is_unobserved(connection):
        with errors_as_django_has_them(connection):
            found = driver.execute(connection, *transactions, meanwhile=meanwhile)
        sent = (call for calls in transactions for call in calls)
        for call, rows in zip(sent, found, strict=True):
            _tell(call, rows)
        return found
    found = []
    for calls in transactions:
        with transaction.atomic(using=using):
            for call in calls:
                found.append(driver.execute_observed(connection, call))
                _tell(call, found[-1])
    return found


def _tell(call: Call, rows: Sequence[Row]) -> None:
    """Name the points that a statement has reached; it has changed nothing if it gives no rows."""
    if rows:
        for name in call.statement.reaches:
            failpoints.hit(name)


def is_unobserved(connection: Any) -> bool:
    """Tell whether only the database sees what is sent over this connection."""
    return not (
        is_observed(connection)
        or failpoints.are_watched_in_transactions()
        or detect_environment() == "eventlet"  # which has no poll()
    )
