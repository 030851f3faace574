"""Transactions that must not wait for a row that another transaction has locked.

Lease renewals and the sweeper's repairs handle many nodes: waiting for one of them would delay all
others. Locked rows are left for a later pass, and a lock shows that its holder is alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar

from django.db import DatabaseError, connections, transaction

_may_wait = ContextVar("_may_wait", default=True)

# Each is the shortest time that the server knows; MySQL, unlike MariaDB, makes a second of 0.
# SKIP LOCKED does not go together with it: MariaDB 10.11 fails such a statement with error 1180.
_POSTGRES = "SET LOCAL lock_timeout = '1ms'"
_MYSQL = "SET @backbeat_wait = @@innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 0"
_MYSQL_AGAIN = "SET SESSION innodb_lock_wait_timeout = @backbeat_wait"

_SQLSTATE = "55P03"
_MYSQL_CODE = 1205


class RowHeld(Exception):
    """Another transaction has locked a row, which is not waited for; nothing was written."""


@contextmanager
def without_waiting() -> Iterator[None]:
    """Let each `step` raise RowHeld instead of waiting for a row."""
    token = _may_wait.set(False)
    try:
        yield
    finally:
        _may_wait.reset(token)


@contextmanager
def step(using: str) -> Iterator[None]:
    """Make a transaction of the engine; inside `without_waiting` it waits for no row.

    Inside the caller's transaction it waits, since the limit would outlive the step.
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
            raise RowHeld from exc
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
        with suppress(DatabaseError):  # a session that is gone has no limit, either
            _execute(using, _MYSQL_AGAIN)


def missing_limit(using: str) -> str | None:
    """Name the setting by which a server ends a transaction of a client that was cut off.

    None where it is set, or where the server has none.
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
