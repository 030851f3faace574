"""The engine's own database sessions in a worker, apart from those that handlers use.

A handler, a receiver of Celery's signals or a library may leave anything in its session: another
search path, a read-only default, an open transaction, a query that a time limit cut off. It stays
in their session, which Celery closes before and after each task. The engine claims, records and
advances in one that nobody else has touched, and that lasts as CONN_MAX_AGE says. Only an atomic
handler shares its session with its record, since they share a transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from django.db import connections

from backbeat_celery.runtime.compat.django import (
    drop_connection,
    replace_connection,
    share_between_threads,
)
from backbeat_celery.runtime.compat.kombu import detect_environment

IDLE = 0
"""libpq's PQTRANS_IDLE, in both psycopg and psycopg2."""
IN_TRANSACTION = 1
"""MySQL's SERVER_STATUS_IN_TRANS."""


class _Thread(threading.local):
    def __init__(self) -> None:
        self.own: dict[str, Any] = {}
        self.theirs: dict[str, Any] = {}
        """What the engine's own connections stand in for at the moment."""


_thread = _Thread()
_spare: dict[str, list[Any]] = {}
"""The engine's connections that no greenlet uses: each task has a greenlet of its own."""
MOST_SPARE = 10
"""Of those that are kept for a database: servers count their clients, also the idle ones."""
_are_apart = False


def keep_apart(apart: bool = True) -> None:
    """From now on the engine has sessions of its own in this process, and in those it forks."""
    global _are_apart
    _are_apart = apart


class of_engine:
    """Do the engine's work in the engine's session."""

    __slots__ = ("_is_entered", "_using")

    def __init__(self, using: str) -> None:
        self._using = using
        self._is_entered = False

    def __enter__(self) -> None:
        using = self._using
        if not _are_apart or using in _thread.theirs:
            return
        theirs: Any = connections[using]
        if not _is_in_memory(theirs):
            replace_connection(using, _thread.own.get(using) or _open(using, theirs))
            _thread.theirs[using] = theirs
            self._is_entered = True

    def __exit__(self, *_: object) -> None:
        if self._is_entered:
            replace_connection(self._using, _thread.theirs.pop(self._using))


class of_project:
    """Call the project's code, in the midst of the engine's work, in the project's session."""

    __slots__ = ("_own", "_using")

    def __init__(self, using: str) -> None:
        self._using = using
        self._own: Any = None

    def __enter__(self) -> None:
        if (theirs := _thread.theirs.pop(self._using, None)) is not None:
            self._own = connections[self._using]
            replace_connection(self._using, theirs)

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            _thread.theirs[self._using] = connections[self._using]
            replace_connection(self._using, self._own)


def connection_to(using: str) -> Any:
    """What `connections[using]` is, found faster during the engine's work.

    Django asks asyncio each time whether it is inside an event loop.
    """
    return _thread.own[using] if using in _thread.theirs else connections[using]


def _open(using: str, theirs: Any) -> Any:
    try:
        _thread.own[using] = _spare[using].pop()
    except LookupError:
        _thread.own[using] = _new(using, theirs)
    return _thread.own[using]


def _new(using: str, theirs: Any) -> Any:
    settings = theirs.settings_dict
    if settings["OPTIONS"].get("pool"):
        # Django's pool hands a session on with all that was done to it.
        options = {name: value for name, value in settings["OPTIONS"].items() if name != "pool"}
        settings = {**settings, "OPTIONS": options, "CONN_MAX_AGE": None}
    return type(theirs)(settings, using)


def _is_in_memory(connection: Any) -> bool:
    """Whether the database is there for this one connection only."""
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


def interrupt_project() -> None:
    """End what the project's code has left under way: its locks would hold up the record.

    A session in which nothing is under way stays as it is for the hooks that come after.
    """
    if not _are_apart:
        return
    each: Any
    for each in connections.all(initialized_only=True):
        if each.in_atomic_block:
            # Django would refuse to connect again until the block is left.
            drop_connection(each)
            del connections[each.alias]
        elif each.connection is not None and _is_under_way(each):
            each.close()


def opened() -> dict[str, Any]:
    """The sessions that project code has open now, for `close_all_but`."""
    return {each.alias: each.connection for each in connections.all(initialized_only=True)}


def close_all_but(kept: Mapping[str, Any]) -> None:
    """End the sessions of a handler after which another one is called in the same task call.

    Those that were there before it are left: a receiver may have prepared them for all.
    """
    interrupt_project()
    if not _are_apart:
        return
    for each in connections.all(initialized_only=True):
        if each.connection is not None and each.connection is not kept.get(each.alias):
            each.close()


def _is_under_way(connection: Any) -> bool:
    raw = connection.connection
    if connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    if connection.vendor == "postgresql":
        return bool(raw.info.transaction_status != IDLE)
    if connection.vendor == "sqlite":
        return bool(raw.in_transaction)
    return bool(getattr(raw, "server_status", 0) & IN_TRANSACTION)


def end_call() -> None:
    """At the end of a node's task call: keep the engine's sessions as Django's settings say."""
    for connection in _thread.own.values():
        connection.close_if_unusable_or_obsolete()
    if detect_environment() != "default":
        _hand_on()


def _hand_on() -> None:
    """Leave a greenlet's sessions to the next one: its own life ends with its task."""
    while _thread.own:
        using, connection = _thread.own.popitem()
        spare = _spare.setdefault(using, [])
        is_at_rest = connection.connection is not None and not (
            connection.in_atomic_block or _is_under_way(connection)  # a time limit struck
        )
        if is_at_rest and len(spare) < MOST_SPARE:
            share_between_threads(connection)
            spare.append(connection)
        else:
            connection.close()


def close_own() -> None:
    """Close this thread's sessions of the engine, and those that nobody uses."""
    while _thread.own:
        _thread.own.popitem()[1].close()
    while _spare:
        for connection in _spare.popitem()[1]:
            connection.close()
