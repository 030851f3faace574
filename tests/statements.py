"""All statements that only PostgreSQL is sent."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

import pytest

from backbeat_celery.sql import session
from backbeat_celery.sql.statement import Statement
from tests import services

NEEDED = pytest.mark.skipif(
    services.database_kind() != "postgres" or not session.is_enabled,
    reason="statements of PostgreSQL; BACKBEAT_TEST_DB=postgres",
)
"""Marks tests of what only these statements do."""

MODULES = ("signal_batches", "bundles", "children", "claim", "completion", "record", "signals")


def _statements() -> Iterator[Statement]:
    for name in MODULES:
        module = import_module(f"backbeat_celery.engine.statements.{name}")
        for value in vars(module).values():
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, Statement):
                    yield one


BY_NAME = {statement.name: statement for statement in _statements()}

FOR_MANY = (
    *("leaves", "lock_lines", "all_settled"),
    *("look_at_runs", "lock_runs", "append_signals", "open_runs"),
)
"""Those that a bundle or a batch sends for many nodes at once."""
