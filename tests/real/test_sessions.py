"""What handlers leave in their database sessions, on a real worker."""

from __future__ import annotations

import pytest
from django.db import connection

from backbeat_celery import signal
from tests.real import handlers
from tests.waiting import until

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL's sessions")


@pytest.mark.parametrize("env", [{}, {"BACKBEAT_TEST_POOL": "1"}], ids=["", "pool"])
def test_a_spoiled_session_is_nobody_elses(start_worker, log, finished, env):
    """The processes' sessions are spoiled again and again; then all connections are cut."""
    worker = start_worker(size=2, env=env).wait_ready()
    nodes = [signal(handlers.spoiler.s(), subject=f"a{n}") for n in range(10)]
    nodes += [signal(handlers.backend.s(), subject=f"b{n}") for n in range(10)]
    for n in range(10):
        handlers.ask_tenant.delay(f"before {n}")
    for node in nodes:
        finished(node, 30)
        assert [attempt.outcome for attempt in node.attempts] == ["succeeded"]
    until(lambda: len(log.lines(event="tenant")) == 10)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for n in range(4):
        handlers.ask_tenant.delay(f"after {n}")
    finished(signal(handlers.step.s("after"), subject="c"), 30)
    until(lambda: len(log.lines(event="tenant")) == 14)
    assert {line["tenant"] for line in log.lines(event="tenant")} == {None}
    assert {line["read_only"] for line in log.lines(event="tenant")} == {"off"}
    printed = worker.output.read_text()
    assert "Cannot claim" not in printed
    assert "Cannot record" not in printed
