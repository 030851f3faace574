"""Send statements straight to libpq: psycopg's cursor costs three times as much as this.

Imported only once psycopg 3 is known to be there.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from psycopg import errors
from psycopg.pq import ExecStatus

from backbeat_celery.runtime.compat.kombu import detect_environment
from backbeat_celery.runtime.compat.psycopg import error_of, result_of
from backbeat_celery.sql.statement import Call, Row

_DONE = frozenset({ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK})

_prepared: WeakKeyDictionary[Any, set[bytes]] = WeakKeyDictionary()
"""The names of what a connection has prepared."""

_pooled: set[str] = set()
"""Databases behind a pooler which gave us a server that has not prepared what we know."""


def execute(
    connection: Any, *transactions: Sequence[Call], meanwhile: Callable[[], None] | None = None
) -> list[list[Row]]:
    """Run transactions one after another in one round trip; give the rows of each call.

    `meanwhile` is called once they are sent.
    """
    try:
        return _execute(connection, transactions, meanwhile)
    except (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement):
        if _is_pooled(connection):
            raise
        # A pooler has given us another server.
        _pooled.add(connection.alias)
    except errors.FeatureNotSupported:
        # A migration has changed the type of a column that a prepared statement gives back.
        if _is_pooled(connection):
            raise
        _forget(connection)
    # What failed was rolled back, and each transaction can tell whether it was done before.
    return _execute(connection, transactions, meanwhile)


def _execute(
    connection: Any,
    transactions: Sequence[Sequence[Call]],
    meanwhile: Callable[[], None] | None,
) -> list[list[Row]]:
    calls = [call for transaction in transactions for call in transaction]
    is_pooled = _is_pooled(connection)
    if not is_pooled:
        _prepare(connection, calls)
    if len(calls) == 1 and meanwhile is None and not _has_greenlets():
        return [_rows(_execute_one(connection, calls[0], is_pooled))]
    return _execute_all(connection, transactions, is_pooled, meanwhile)


def execute_observed(connection: Any, call: Call) -> list[Row]:
    """Run a statement through Django's cursor, as a query set would."""
    statement = call.statement
    with connection.cursor() as cursor:
        cursor.execute(statement.text(), [call.values[n] for n in statement.order()])
        return _rows(result_of(cursor))


def _is_pooled(connection: Any) -> bool:
    """Whether a pooler may change the server: so it did, or Django's own switch says so."""
    told = connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    return connection.alias in _pooled or bool(told)


def _prepare(connection: Any, calls: Sequence[Call]) -> None:
    known = _prepared.get(connection.connection)
    if known is None:
        known = _prepared[connection.connection] = set()
    for call in calls:
        name = call.statement.prepared_name()
        if name not in known:
            _prepare_one(connection, name, call.statement.sql())
            known.add(name)


def _prepare_one(connection: Any, name: bytes, sql: bytes) -> None:
    pgconn = connection.connection.pgconn
    if _has_greenlets():

        def send() -> None:
            pgconn.send_prepare(name, sql)
            pgconn.pipeline_sync()

        _checked(_pipelined(connection, 1, send)[0])
    else:
        _checked(pgconn.prepare(name, sql))


def _has_greenlets() -> bool:
    """Whether others in this process stand still unless we wait in `poll()`, as gevent has it."""
    return detect_environment() == "gevent"


def _forget(connection: Any) -> None:
    """Have a connection's statements prepared anew."""
    raw = connection.connection
    for name in _prepared.pop(raw, ()):
        _checked(raw.pgconn.exec_(b'DEALLOCATE "%s"' % name))


def _execute_one(connection: Any, call: Call, is_pooled: bool) -> Any:
    pgconn, statement = connection.connection.pgconn, call.statement
    if is_pooled:
        return _checked(pgconn.exec_params(statement.sql(), call.encoded()))
    return _checked(pgconn.exec_prepared(statement.prepared_name(), call.encoded()))


def _execute_all(
    connection: Any,
    transactions: Sequence[Sequence[Call]],
    is_pooled: bool,
    meanwhile: Callable[[], None] | None,
) -> list[list[Row]]:
    """Use a pipeline, in which what is between two syncs is one transaction."""
    pgconn = connection.connection.pgconn

    def send() -> None:
        for calls in transactions:
            for call in calls:
                if is_pooled:
                    pgconn.send_query_params(call.statement.sql(), call.encoded())
                else:
                    pgconn.send_query_prepared(call.statement.prepared_name(), call.encoded())
            pgconn.pipeline_sync()
        if meanwhile is not None:
            pgconn.flush()
            meanwhile()

    results = _pipelined(connection, len(transactions), send)
    return [_rows(_checked(result)) for result in results]


def _pipelined(connection: Any, syncs: int, send: Callable[[], None]) -> list[Any]:
    """Send in a pipeline, and read all results until so many syncs."""
    pgconn = connection.connection.pgconn
    pgconn.enter_pipeline_mode()
    try:
        send()
        results = list(_results(pgconn, syncs))
        pgconn.exit_pipeline_mode()
    except BaseException:
        # A soft time limit may strike here. What was not read would be taken for the answer
        # to the next question.
        connection.close()
        raise
    return results


def _results(pgconn: Any, syncs: int) -> Iterator[Any]:
    """Read a pipeline to its end, whatever happened in it."""
    poll = select.poll()
    poll.register(pgconn.socket, select.POLLIN)
    while pgconn.flush():
        # More than the socket takes at once; the server may want to be heard first.
        select.select([pgconn.socket], [pgconn.socket], [])
        pgconn.consume_input()
    while syncs:
        while pgconn.is_busy():
            poll.poll()  # rather than in get_result(), which would hold up other threads
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            syncs -= 1
        else:
            yield result


def _checked(result: Any) -> Any:
    if result.status in _DONE:
        return result
    raise error_of(result)


def _rows(result: Any) -> list[Row]:
    columns = range(result.nfields)
    return [[_text(result.get_value(row, n)) for n in columns] for row in range(result.ntuples)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
