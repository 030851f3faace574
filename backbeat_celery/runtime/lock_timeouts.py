"""Transactions that do not wait for locked rows.

Lease renewals and sweeps process many nodes, and waiting for the lock on one would delay all the
others. A locked row is left for a later round; the lock shows that its process is alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar

from django.db import DatabaseError, connections, transaction

_may_wait = ContextVar("_may_wait", default=True)

# Each is the server's shortest timeout; MySQL, unlike MariaDB, takes 0 as one second.
# It cannot be combined with SKIP LOCKED: MariaDB 10.11 raises error 1180 for such a statement.
_POSTGRES = "SET LOCAL lock_timeout = '1ms'"
_MYSQL = "SET @backbeat_wait = @@innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 0"
_MYSQL_AGAIN = "SET SESSION innodb_lock_wait_timeout = @backbeat_wait"

_SQLSTATE = "55P03"
_MYSQL_CODE = 1205


class RowLocked(Exception):
    """A row is locked by another transaction, and is not waited for; nothing was written."""


@contextmanager
def without_waiting() -> Iterator[None]:
    """Let each `step` raise RowLocked instead of waiting for a lock."""
    token = _may_wait.set(False)
    try:
        yield
    finally:
        _may_wait.reset(token)


@contextmanager
def step(using: str) -> Iterator[None]:
    """Open a transaction of the engine; inside `without_waiting` it does not wait for locks.

    Inside an outer transaction it does wait, since the timeout would stay set there.
    """
    connection = connections[using]
    is_limited = not (_may_wait.get() or connection.in_atomic_block)
    if not is_limited or connection.vendor not in _LIMITS:
        with transaction.atomic(using=using):
            yield
        return
    try:
        with _LIMITS[connection.vendor](using):
            yield
    except DatabaseError as exc:
        if _is_lock_timeout(exc):
            raise RowLocked from exc
        raise


@contextmanager
def _limited_postgres(using: str) -> Iterator[None]:
    with transaction.atomic(using=using):
        _execute(using, _POSTGRES)
        yield


@contextmanager
def _limited_mysql(using: str) -> Iterator[None]:
    _execute(using, _MYSQL)
    try:
        with transaction.atomic(using=using):
            yield
    finally:
        with suppress(DatabaseError):  # a closed session has no timeout to reset
            _execute(using, _MYSQL_AGAIN)


def missing_idle_timeout(using: str) -> str | None:
    """Name the server's setting that ends idle transactions of a client that was cut off.

    None if it is set, or if the server has no such setting.
    """
    connection = connections[using]
    if connection.vendor == "postgresql":
        name, query = "idle_in_transaction_session_timeout", "SHOW {}"
    elif connection.vendor == "mysql" and getattr(connection, "mysql_is_mariadb", False):
        name = "idle_transaction_timeout"
        query = "SELECT greatest(@@{}, @@idle_write_transaction_timeout)"
    else:
        return None
    with connection.cursor() as cursor:
        cursor.execute(query.format(name))
        (value,) = cursor.fetchone()
    return None if str(value).rstrip("msinhd") != "0" else name


def _execute(using: str, sql: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(sql)


def _is_lock_timeout(exc: DatabaseError) -> bool:
    cause = exc.__cause__
    if getattr(cause, "sqlstate", None) == _SQLSTATE:
        return True
    return (getattr(cause, "args", ()) or exc.args)[:1] == (_MYSQL_CODE,)


_LIMITS: dict[str, Callable[[str], AbstractContextManager[None]]] = {
    "postgresql": _limited_postgres,
    "mysql": _limited_mysql,
}
