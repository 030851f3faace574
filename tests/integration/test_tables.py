"""Whether the tables are there is told from the errors of each database."""

from __future__ import annotations

import logging

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from backbeat_celery.exceptions import NotMigrated
from backbeat_celery.runtime import migration_state

GONE = [
    "SELECT id FROM backbeat_celery_gone",
    "SELECT backbeat_celery_node.gone FROM backbeat_celery_node",
    "UPDATE backbeat_celery_node SET gone = 1",
    "INSERT INTO backbeat_celery_workerheartbeat (gone) VALUES (1)",
]
OTHERS = ["SELECT id FROM somebodys_table", "SELECT 1 FROM", "SELECT nothing(1)"]


def error_of(sql: str) -> DatabaseError:
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        connection.cursor().execute(sql)
    return caught.value


@pytest.mark.parametrize("sql", GONE)
def test_missing_tables_and_columns_of_ours_are_known(db, sql, caplog, monkeypatch):
    monkeypatch.setattr(migration_state, "_logged_at", float("-inf"))
    error = error_of(sql)
    with pytest.raises(NotMigrated, match=r"run manage\.py migrate"):
        migration_state.raise_if_not_migrated(error, "default")
    with caplog.at_level(logging.ERROR):
        assert [migration_state.log_missing_tables(error) for _ in range(3)] == [True] * 3
    assert caplog.text.count("run manage.py migrate") == 1


@pytest.mark.parametrize("sql", OTHERS)
def test_other_errors_are_left_alone(db, sql):
    error = error_of(sql)
    migration_state.raise_if_not_migrated(error, "default")
    assert not migration_state.log_missing_tables(error)


def test_a_migration_that_was_not_applied_is_named(db):
    assert migration_state.missing_migrations("default") == ""
    applied = MigrationRecorder.Migration.objects.filter(app="backbeat_celery").order_by("name")
    last = applied.last()
    last.delete()
    assert f"lacks migration {last.name}" in migration_state.missing_migrations("default")
