"""Limits, exits, queues and pools: each kind of ending, on real workers."""

from __future__ import annotations

import pytest
from celery import current_app

from backbeat_celery import signal
from tests.real import handlers
from tests.waiting import until

POOLS = ["prefork", "threads", "gevent", "solo"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_fan_out_runs_in_every_pool(start_worker, log, finished, pool):
    start_worker(pool=pool, size=4).wait_ready()
    finished(signal(handlers.fan_out.s(30), subject="camera"))
    assert sorted(log.labels()) == sorted(["fan_out", "after", *(f"child {n}" for n in range(30))])


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("what", ["SystemExit", "MemoryError", "GeneratorExit", "ValueError"])
def test_whatever_a_handler_raises_fails_the_node_and_spares_the_worker(
    start_worker, log, finished, pool, what
):
    worker = start_worker(pool=pool, size=1).wait_ready()
    node = finished(signal(handlers.raising.s(what), subject="camera"), 30, status="failed")
    assert what in node.error
    assert [a.outcome for a in node.attempts] == ["failed"]
    finished(signal(handlers.step.s("next"), subject="lens"), 30)
    assert worker.process.poll() is None
    pids = {line["pid"] for line in log.lines(event="start")}
    assert len(pids) == 1, "the process that ran the handler was lost"


@pytest.mark.parametrize("pool", POOLS)
def test_a_long_handler_keeps_its_lease(start_worker, log, finished, pool):
    start_worker(pool=pool, size=1).wait_ready()
    node = finished(signal(handlers.step.s("long", 10), subject="camera"), 40)
    assert [a.outcome for a in node.attempts] == ["succeeded"]
    assert log.labels() == ["long"]


def test_hard_time_limit_is_one_failed_attempt(worker, finished):
    node = finished(signal(handlers.hard_limited.s(), subject="camera"), 30, status="failed")
    assert [a.outcome for a in node.attempts] == ["timed_out"]
    assert node.retries == 1


def test_soft_time_limit_is_a_failure_of_the_handler(worker, finished):
    node = finished(signal(handlers.soft_limited.s(), subject="camera"), 30, status="failed")
    assert "SoftTimeLimitExceeded" in node.error
    assert [a.outcome for a in node.attempts] == ["failed"]


def test_queue_and_priority_of_the_signature_are_honoured(start_worker, finished):
    queue = f"special-{current_app.conf.task_default_queue}"
    start_worker(queues=queue).wait_ready()
    node = signal(handlers.delivered.s().set(queue=queue, priority=3), subject="camera")
    finished(node, 30)
    assert node.result["routing_key"] == queue
    if not current_app.conf.broker_url.startswith("sqla"):
        assert node.result["priority"] == 3
    with current_app.connection_for_write() as connection_:
        if not current_app.conf.broker_url.startswith("sqla"):
            connection_.default_channel.queue_delete(queue)


def test_a_task_called_without_signal_stays_an_ordinary_task(worker, log):
    handlers.foreign.delay(4)
    until(lambda: log.lines(event="foreign", label="4"), 30)
