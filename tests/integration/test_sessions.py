"""The engine's database sessions, apart from those in which handlers leave what they like."""

from __future__ import annotations

import signal as signals

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import WorkerShutdown
from celery.signals import task_postrun, task_prerun
from django.db import connection, connections, transaction

from backbeat_celery import signal, signal_many
from backbeat_celery.models import Node
from backbeat_celery.runtime import failpoints, sessions, transactions
from backbeat_celery.signals import node_completed
from tests import workflows

pytestmark = pytest.mark.django_db(transaction=True)
on_postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL's own")

SPOILING = {
    "postgresql": [
        "SET default_transaction_read_only = on",
        "SET search_path = nowhere",
        "BEGIN; SET LOCAL lock_timeout = 1",
        "SET ROLE pg_monitor",
    ],
    "mysql": ["SET SESSION TRANSACTION READ ONLY", "START TRANSACTION"],
    "sqlite": ["PRAGMA query_only = 1", "BEGIN IMMEDIATE"],
}[connection.vendor]


def end_task(**_):
    """What Celery's fixup for Django does."""
    for each in connections.all(initialized_only=True):
        each.close()


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """The sessions of a worker; a handler's ends with its task call."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    sessions.keep_apart()
    for each in (task_prerun, task_postrun):
        each.connect(end_task)
    yield
    for each in (task_prerun, task_postrun):
        each.disconnect(end_task)
    sessions.keep_apart(False)
    sessions.close_own()
    connections.close_all()


@pytest.fixture
def pauses(monkeypatch):
    """Seconds for which the engine has waited for the database."""
    waited = []
    monkeypatch.setattr(transactions.time, "sleep", waited.append)
    return waited


def execute(sql):
    with connections["default"].cursor() as cursor:
        cursor.execute(sql)


def outcomes(node):
    return [attempt.outcome for attempt in node.attempts]


@pytest.mark.parametrize("sql", SPOILING)
def test_what_a_handler_does_to_its_session_spoils_no_record(sim, send, script, sql):
    script(lambda task: execute(sql))
    node = send(workflows.scripted.s())
    assert (node.status, outcomes(node)) == ("complete", ["succeeded"])


@pytest.mark.parametrize("sql", SPOILING)
def test_what_a_failed_handler_has_done_to_its_session_spoils_no_record(sim, send, script, sql):
    def spoil(task):
        execute(sql)
        raise ValueError("the handler's own")

    script(spoil)
    node = send(workflows.scripted.s())
    assert (node.status, outcomes(node)) == ("retrying", ["failed"])
    assert "the handler's own" in node.error


@pytest.mark.parametrize("is_prepared", [False, True], ids=["", "prepared by a receiver"])
def test_handlers_of_a_bundle_leave_nothing_to_one_another(sim, script, is_prepared):
    """But what was prepared for all of them is there."""
    used = []

    def prepare(task=None, **_):
        if is_prepared and task.name == workflows.bundled.name:
            execute("SELECT 1")

    def work(task, number):
        execute("SELECT 1")
        used.append(connections["default"].connection)
        return number

    script(work, "bundled")
    task_prerun.connect(prepare)
    try:
        nodes = signal_many([(workflows.bundled.s(n), {"subject": f"s{n}"}) for n in range(4)])
        sim.run()
    finally:
        task_prerun.disconnect(prepare)
    rows = Node.objects.filter(pk__in=[node.pk for node in nodes])
    assert {node.status for node in rows} == {"complete"}
    assert len(used) == 4
    assert len({id(raw) for raw in used}) == (1 if is_prepared else 4)


def _without_autocommit(node):
    connection.set_autocommit(False)
    Node.objects.filter(pk=node.id).update(worker="handler")


def _in_a_block(node):
    transaction.atomic().__enter__()
    Node.objects.filter(pk=node.id).update(worker="handler")


@pytest.mark.parametrize("begin", [_without_autocommit, _in_a_block])
def test_a_transaction_that_a_handler_leaves_open_ends_before_its_record(sim, send, script, begin):
    from backbeat_celery import current_node

    script(lambda task: begin(current_node()))
    node = send(workflows.scripted.s())
    assert (node.status, outcomes(node)) == ("complete", ["succeeded"])
    script(lambda task: Node.objects.count())
    assert send(workflows.scripted.s()).status == "complete"
    assert node.attempts[0].worker != "handler"


@on_postgres
@pytest.mark.parametrize("block", [False, True], ids=["by itself", "in a transaction"])
def test_a_time_limit_in_the_midst_of_a_query_is_a_failed_attempt(sim, send, script, block):
    def interrupted(number, frame):
        raise SoftTimeLimitExceeded

    def query(task):
        before = signals.signal(signals.SIGALRM, interrupted)
        try:
            signals.setitimer(signals.ITIMER_REAL, 0.1)
            if block:
                with transaction.atomic():
                    execute("SELECT pg_sleep(60)")
            execute("SELECT pg_sleep(60)")
        finally:
            signals.signal(signals.SIGALRM, before)

    script(query)
    node = send(workflows.scripted.s())
    assert (node.status, outcomes(node)) == ("retrying", ["failed"])
    assert "SoftTimeLimitExceeded" in node.error
    # Nobody has told the server that its answer is not wanted any more.
    execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sl'")


@pytest.fixture
def strike(sim):
    """Run what is due, and let an exception strike once where the engine is at a point."""

    def run_and_strike(point, error):
        struck = []

        def observe(name):
            if name == point and not struck:
                struck.append(name)
                raise error

        with failpoints.watched(observe):
            sim.run()
        assert struck

    return run_and_strike


@pytest.mark.parametrize("point", ["before_record", "record_written", "recorded"])
def test_a_time_limit_that_strikes_during_the_record_changes_no_outcome(strike, point):
    node = signal(workflows.done.s(), subject="camera")
    strike(point, SoftTimeLimitExceeded())
    node.refresh_from_db()
    assert (node.status, outcomes(node)) == ("complete", ["succeeded"])


@pytest.mark.parametrize("point", ["before_record", "record_written", "recorded"])
@pytest.mark.parametrize("task", [workflows.done, workflows.bundled], ids=["one", "a bundle"])
def test_a_shutdown_that_strikes_during_the_record_changes_no_outcome(strike, task, point):
    nodes = signal_many([(task.s(n), {"subject": f"s{n}"}) for n in range(3)])
    with pytest.raises(WorkerShutdown):
        strike(point, WorkerShutdown(0))
    told = {tuple(outcomes(node)) for node in nodes if node.attempts}
    assert told == {("succeeded",)}
    assert not Node.objects.filter(status="running").exists()


def test_the_engines_session_lasts_over_attempts(sim, send, script):
    send(workflows.done.s())
    own = sessions._thread.engine["default"]
    raw = own.connection
    assert raw is not None
    script(lambda task: Node.objects.count())
    send(workflows.scripted.s())
    assert own.connection is raw
    assert connection.connection is not raw
    own.settings_dict["CONN_MAX_AGE"] = 0
    own.close_at = 0
    send(workflows.done.s())
    assert own.connection is None


@pytest.mark.exact
def test_a_handler_without_queries_opens_no_session_of_its_own(sim):
    node = signal(workflows.done.s(), subject="camera")
    connections.close_all()
    sim.step()
    assert connection.connection is None
    node.refresh_from_db()
    assert node.status == "complete"


def test_receivers_are_called_in_the_projects_session(sim, send):
    seen = []

    def receiver(**_):
        seen.append(connections["default"] is sessions._thread.engine["default"])

    node_completed.connect(receiver)
    try:
        send(workflows.done.s())
    finally:
        node_completed.disconnect(receiver)
    assert seen == [False]


@pytest.mark.exact
@pytest.mark.parametrize("sql", [sql for sql in SPOILING if sql.startswith(("SET", "PRAGMA"))])
def test_a_sick_session_of_the_engines_own_is_replaced_at_the_first_refusal(
    sim, send, pauses, sql
):
    send(workflows.done.s())
    with sessions.of_engine("default"):
        execute(sql)
        sick = connections["default"].connection
    node = send(workflows.done.s())
    assert (node.status, outcomes(node)) == ("complete", ["succeeded"])
    assert sessions._thread.engine["default"].connection is not sick
    assert not any(pauses)


@pytest.mark.exact
def test_a_greenlet_leaves_its_session_to_the_next_one(sim, send, monkeypatch):
    monkeypatch.setattr(sessions, "detect_environment", lambda: "gevent")
    send(workflows.done.s())
    (left,) = sessions._spare["default"]
    raw = left.connection
    assert raw is not None and not sessions._thread.engine
    send(workflows.done.s())
    assert sessions._spare["default"] == [left] and left.connection is raw
    monkeypatch.setattr(sessions, "MAX_SPARE", 1)
    sessions._thread.engine["default"] = more = sessions._new("default", connections["default"])
    more.connect()
    sessions.end_call()
    assert sessions._spare["default"] == [left] and more.connection is None


@pytest.mark.exact
def test_a_greenlets_session_with_something_under_way_is_closed(monkeypatch):
    monkeypatch.setattr(sessions, "detect_environment", lambda: "gevent")
    sessions._thread.engine["default"] = busy = sessions._new("default", connections["default"])
    busy.connect()
    with busy.cursor() as cursor:
        cursor.execute("BEGIN")
    sessions.end_call()
    assert busy.connection is None
    assert not sessions._spare["default"]


@pytest.mark.exact
@on_postgres
def test_a_record_waits_for_a_database_that_is_read_only(sim, send, script, monkeypatch):
    """As after a failover to a server that is not promoted yet."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    pauses = []

    def read_only(task):
        execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        sessions.close_own()

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 5:
            execute("SET default_transaction_read_only = off")
            execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")

    monkeypatch.setattr(transactions.time, "sleep", sleep)
    script(read_only)
    node = send(workflows.scripted.s())
    assert (node.status, outcomes(node)) == ("complete", ["succeeded"])
    assert len(pauses) == 5
