"""Database sessions of the engine in a worker, separate from the project's sessions.

A handler, a receiver of Celery's signals or a library may change its session: another search
path, a read-only default, an open transaction, a query that a time limit interrupted. Those
changes stay in the project's session, which Celery closes before and after each task. The engine
claims, records and advances in a session of its own, which is kept for CONN_MAX_AGE. Only an
atomic handler shares a session with its record, since they share a transaction.
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
        self.engine: dict[str, Any] = {}
        self.project: dict[str, Any] = {}
        """The project's connections that the engine's replace at the moment."""


_thread = _Thread()
_spare: dict[str, list[Any]] = {}
"""The engine's connections that no greenlet uses; each task runs in a new greenlet."""
MAX_SPARE = 10
"""Spare connections for each database: idle ones count towards the server's limit, too."""
_are_apart = False


def keep_apart(apart: bool = True) -> None:
    """Let the engine use sessions of its own in this process and in its forks."""
    global _are_apart
    _are_apart = apart


class of_engine:
    """Use the engine's session inside the `with` block."""

    __slots__ = ("_is_entered", "_using")

    def __init__(self, using: str) -> None:
        self._using = using
        self._is_entered = False

    def __enter__(self) -> None:
        using = self._using
        if not _are_apart or using in _thread.project:
            return
        project: Any = connections[using]
        if not _is_in_memory(project):
            replace_connection(using, _thread.engine.get(using) or _open(using, project))
            _thread.project[using] = project
            self._is_entered = True

    def __exit__(self, *_: object) -> None:
        if self._is_entered:
            replace_connection(self._using, _thread.project.pop(self._using))


class of_project:
    """Use the project's session inside the `with` block, for project code the engine calls."""

    __slots__ = ("_engine", "_using")

    def __init__(self, using: str) -> None:
        self._using = using
        self._engine: Any = None

    def __enter__(self) -> None:
        if (project := _thread.project.pop(self._using, None)) is not None:
            self._engine = connections[self._using]
            replace_connection(self._using, project)

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            _thread.project[self._using] = connections[self._using]
            replace_connection(self._using, self._engine)


def connection_to(using: str) -> Any:
    """Give `connections[using]`, but faster while the engine's session is in use.

    Django's lookup asks asyncio each time whether an event loop runs.
    """
    return _thread.engine[using] if using in _thread.project else connections[using]


def _open(using: str, project: Any) -> Any:
    try:
        _thread.engine[using] = _spare[using].pop()
    except LookupError:
        _thread.engine[using] = _new(using, project)
    return _thread.engine[using]


def _new(using: str, project: Any) -> Any:
    settings = project.settings_dict
    if settings["OPTIONS"].get("pool"):
        # Django's pool does not reset a session before its next use.
        options = {name: value for name, value in settings["OPTIONS"].items() if name != "pool"}
        settings = {**settings, "OPTIONS": options, "CONN_MAX_AGE": None}
    return type(project)(settings, using)


def _is_in_memory(connection: Any) -> bool:
    """Tell whether the database exists for this connection only."""
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


def interrupt_project() -> None:
    """Close the project's sessions that have a transaction open: their locks block the record.

    The other sessions stay open for signal receivers that are called later.
    """
    if not _are_apart:
        return
    each: Any
    for each in connections.all(initialized_only=True):
        if each.in_atomic_block:
            # Django would refuse to reconnect before the atomic block is left.
            drop_connection(each)
            del connections[each.alias]
        elif each.connection is not None and _in_transaction(each):
            each.close()


def opened() -> dict[str, Any]:
    """Give the sessions that project code has open now, for `close_all_but`."""
    return {each.alias: each.connection for each in connections.all(initialized_only=True)}


def close_all_but(kept: Mapping[str, Any]) -> None:
    """Close a handler's sessions before the next handler of the same task call.

    Those in `kept` stay open: a signal receiver may have prepared them for all handlers.
    """
    interrupt_project()
    if not _are_apart:
        return
    for each in connections.all(initialized_only=True):
        if each.connection is not None and each.connection is not kept.get(each.alias):
            each.close()


def _in_transaction(connection: Any) -> bool:
    raw = connection.connection
    if connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    if connection.vendor == "postgresql":
        return bool(raw.info.transaction_status != IDLE)
    if connection.vendor == "sqlite":
        return bool(raw.in_transaction)
    return bool(getattr(raw, "server_status", 0) & IN_TRANSACTION)


def end_call() -> None:
    """Close the engine's sessions after a node's task call, if CONN_MAX_AGE has passed."""
    for connection in _thread.engine.values():
        connection.close_if_unusable_or_obsolete()
    if detect_environment() != "default":
        _keep_spare()


def _keep_spare() -> None:
    """Keep a greenlet's sessions for the next greenlet: it ends with its task."""
    while _thread.engine:
        using, connection = _thread.engine.popitem()
        spare = _spare.setdefault(using, [])
        is_idle = connection.connection is not None and not (
            connection.in_atomic_block
            or _in_transaction(connection)  # interrupted by a time limit
        )
        if is_idle and len(spare) < MAX_SPARE:
            share_between_threads(connection)
            spare.append(connection)
        else:
            connection.close()


def close_own() -> None:
    """Close this thread's engine sessions and all spare ones."""
    while _thread.engine:
        _thread.engine.popitem()[1].close()
    while _spare:
        for connection in _spare.popitem()[1]:
            connection.close()
