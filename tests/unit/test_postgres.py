"""The statements that only PostgreSQL understands, and how they are sent."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from django.db import DataError, IntegrityError, OperationalError, connection, transaction

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.sql import driver, session
from backbeat_celery.sql.statement import Statement
from backbeat_celery.states import Status
from tests import pace, services, workflows
from tests.statements import BY_NAME, NEEDED

pytestmark = NEEDED
ECHO = Statement("test_echo", "SELECT $1::text, $2::int, {now} IS NOT NULL")
OTHER = Statement("test_other", "SELECT $1::text")


@pytest.mark.parametrize("name", BY_NAME)
def test_a_statement_writes_only_the_statuses_of_its_steps(name):
    statement = BY_NAME[name]
    text = statement.sql().decode()
    written = set(re.findall(r"SET status = '(\w+)'", text))
    assert written <= {after.value for _, after in statement.steps}
    assert text.count("SET status") == len(re.findall(r"SET status = '", text))


def test_a_step_that_the_table_refuses_cannot_be_made():
    with pytest.raises(AssertionError):
        Statement("wrong", "SELECT 1", steps=[(Status.COMPLETE, Status.QUEUED)])


@pytest.fixture(params=["default", "gevent"])
def direct(transactional_db, monkeypatch, request):
    """A connection on which nothing is observed, waited for in libpq or in `poll()`."""
    monkeypatch.setattr(driver, "detect_environment", lambda: request.param)
    assert not connection.in_atomic_block
    return connection


def prepared():
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements")
        return {name for (name,) in cursor.fetchall()}


def test_a_statement_is_prepared_once_a_connection(direct):
    for _ in range(3):
        assert session.execute("default", ECHO, "ä'%", "7") == [["ä'%", "7", "t"]]
    assert [name for name in prepared() if name.startswith("backbeat_test_echo_")]


GREENLETS = """
from gevent import monkey

monkey.patch_all()
import django

django.setup()
import gevent
from django.db import connection
from backbeat_celery.sql import session
from backbeat_celery.sql.statement import Statement

connection.ensure_connection()
assert session.is_unobserved(connection)
session.execute("default", Statement("test_hold", "SELECT pg_advisory_lock(703)::text"))
wait = Statement("test_wait", "SELECT pg_advisory_lock(703)::text, 'goes on'")
waiting = gevent.spawn(lambda: session.execute("default", wait))
blocked = "SELECT count(*) FROM pg_locks WHERE objid = 703 AND NOT granted"
blocked = Statement("test_blocked", blocked)
while session.execute("default", blocked) != [["1"]]:
    gevent.sleep(0.05)
session.execute("default", Statement("test_free", "SELECT pg_advisory_unlock(703)"))
print(waiting.get())
"""


def test_a_greenlet_that_waits_for_the_database_holds_up_no_other(transactional_db):
    """If it did, nobody would be left to free what it waits for."""
    name = connection.settings_dict["NAME"]
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS],
        env={**os.environ, services.DATABASE_NAME: name},
        capture_output=True,
        text=True,
        timeout=pace.allowed(120),
    )
    assert "goes on" in done.stdout, done.stderr


def test_another_text_has_another_name(direct):
    """Behind a pooler another release may have prepared what it calls by the same name."""
    assert session.execute("default", Statement("test_name", "SELECT 1")) == [["1"]]
    assert session.execute("default", Statement("test_name", "SELECT 2")) == [["2"]]
    names = {name for name in prepared() if name.startswith("backbeat_test_name_")}
    assert len(names) == 2


@pytest.mark.parametrize("calls", [1, 2], ids=["alone", "in a pipeline"])
def test_a_column_that_changes_its_type_stops_no_lasting_connection(direct, calls):
    read = Statement("test_wide", "SELECT body FROM test_changed")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE test_changed AS SELECT 1::int AS body")
        for kind in ("int", "bigint", "text"):
            cursor.execute(f"ALTER TABLE test_changed ALTER body TYPE {kind}")
            raw = connection.connection
            found = session.execute_all("default", *[[read.call()]] * calls)
            assert found == [[["1"]]] * calls
            assert connection.connection is raw
        cursor.execute("DROP TABLE test_changed")


def test_inside_a_transaction_the_same_text_goes_through_djangos_cursor(direct):
    connection.close()
    with transaction.atomic():
        assert session.execute("default", ECHO, "ä'%", None) == [["ä'%", None, "t"]]
    assert not [name for name in prepared() if name.startswith("backbeat_test_echo")]


def test_whoever_wraps_statements_sees_them(direct):
    seen = []

    def wrapper(execute, sql, params, many, context):
        seen.append(("text" in sql, list(params)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        session.execute("default", OTHER, "x")
    assert seen == [(True, ["x"])]


def test_transactions_in_one_round_trip_are_separate(direct, sim):
    node = signal(workflows.done.s(), subject="camera")
    rename = Statement("test_rename", "UPDATE {nodes} SET worker = $2 WHERE id = $1::uuid")
    fail = Statement("test_fail", "SELECT 1 / $1::int")
    with pytest.raises(DataError):
        session.execute_all(
            "default",
            [rename.call(str(node.pk), "kept")],
            [rename.call(str(node.pk), "lost"), fail.call("0")],
        )
    node.refresh_from_db()
    assert node.worker == "kept"
    assert session.execute("default", OTHER, "goes on") == [["goes on"]]


def test_much_that_is_sent_at_once_arrives(direct):
    texts = [str(n) * 200_000 for n in range(8)]
    found = session.execute_all("default", *[[OTHER.call(text)] for text in texts])
    assert found == [[[text]] for text in texts]


def test_an_error_is_djangos_own(direct):
    fail = Statement("test_twice", "INSERT INTO {nodes} SELECT * FROM {nodes}")
    signal(workflows.done.s(), subject="camera")
    with pytest.raises(IntegrityError):
        session.execute("default", fail)


def test_behind_a_pooler_nothing_is_prepared(direct, monkeypatch):
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    calls = [[OTHER.call("a")], [OTHER.call("b")]]
    assert session.execute_all("default", *calls) == [[["a"]], [["b"]]]
    assert session.execute("default", OTHER, "x") == [["x"]]
    assert not prepared()


def test_a_server_that_has_not_prepared_what_we_know_is_asked_otherwise(direct, monkeypatch):
    from backbeat_celery.sql import driver

    monkeypatch.setattr(driver, "_pooled", set())
    session.execute("default", OTHER, "x")
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    assert session.execute("default", OTHER, "y") == [["y"]]
    assert driver._pooled == {"default"}
    connection.close()


def test_answers_that_were_not_read_are_nobody_elses(direct, monkeypatch):
    from backbeat_celery.sql import driver

    def interrupted(pgconn, syncs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(driver, "_results", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.execute_all("default", [OTHER.call("a")], [OTHER.call("b")])
    assert session.execute_all("default", [OTHER.call("c")], [OTHER.call("d")]) == [
        [["c"]],
        [["d"]],
    ]


def test_a_connection_that_is_gone_is_told_as_such(direct):
    session.execute("default", OTHER, "x")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    other.close()
    with pytest.raises(OperationalError):
        session.execute_all("default", [OTHER.call("a")], [OTHER.call("b")])
    connection.close()


def test_a_signal_is_the_same_row_by_either_path(sim, monkeypatch):
    fast = signal(workflows.done.s(1, a="ä"), subject="fast", metadata={"m": [1]}, delay=5)
    monkeypatch.setattr(session, "is_enabled", False)
    slow = signal(workflows.done.s(1, a="ä"), subject="slow", metadata={"m": [1]}, delay=5)
    differ = {"id", "workflow_id", "parent_id", "awaited_by"}
    for left, right in ((fast, slow), (fast.parent, slow.parent)):
        rows = [Node.objects.filter(pk=node.pk).values().get() for node in (left, right)]
        same, other = [{k: v for k, v in row.items() if k not in differ} for row in rows]
        assert same == other
    fields = [f.attname for f in Node._meta.fields if f.attname not in differ]
    assert {f: getattr(fast, f) for f in fields} == {f: getattr(slow, f) for f in fields}
