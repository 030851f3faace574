"""Workers behind PgBouncer with transaction pooling: docs/planning.md."""

from __future__ import annotations

import os

import pytest
from django.db import connection

from backbeat_celery import signal
from backbeat_celery.inspection.doctor import examine
from tests import services
from tests.real import handlers, pooler

pytestmark = pytest.mark.skipif(
    services.database_kind() != "postgres" or services.broker_kind() == "rabbitmq",
    reason="PgBouncer stands before PostgreSQL, and the broker does not matter",
)


@pytest.fixture
def bouncer(tmp_path):
    if pooler.binary() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no pgbouncer: apt-get install pgbouncer")
        pytest.skip("no pgbouncer: apt-get install pgbouncer")
    started = pooler.Pooler(tmp_path, os.environ[services.DATABASE_URL])
    yield started
    started.stop()


# Told of the pooler, a process prepares nothing; not told, it finds out by an error, once.
@pytest.mark.parametrize("told", ["1", ""], ids=["told", "not told"])
def test_trees_complete_on_fewer_servers_than_clients(bouncer, start_worker, log, finished, told):
    env = {services.DATABASE_URL: bouncer.url, "BACKBEAT_TEST_POOLER": told}
    workers = [start_worker(env=env, size=3).wait_ready() for _ in range(2)]
    purchase = signal(handlers.purchase.s(703), subject="camera")
    wide = signal(handlers.fan_out.s(100), subject="lens")
    chain = signal(handlers.chain.s(20), subject="tripod")
    for node in (purchase, wide, chain):
        finished(node)
    assert [a.outcome for a in purchase.attempts] == ["failed", "succeeded"]
    assert log.labels().count("after") == 1
    assert not [found for found in examine().findings if found.is_serious]
    (pool,) = [p for p in bouncer.pools() if p["database"] == connection.settings_dict["NAME"]]
    clients = int(pool["cl_active"]) + int(pool["cl_waiting"])
    servers = sum(int(pool[name]) for name in ("sv_active", "sv_idle", "sv_used"))
    assert servers <= pooler.SERVERS < clients
    for worker in workers:
        assert "prepared statement" not in worker.output.read_text()
