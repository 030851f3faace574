"""Workers that are really killed, and messages that are really gone."""

from __future__ import annotations

import os
import signal as signals

import pytest
from celery import current_app

from backbeat_celery import signal
from backbeat_celery.models import Attempt, Node
from tests import pace
from tests.real import handlers
from tests.real.workers import LEASE, Log, Worker
from tests.waiting import until

RECOVERY = 2 * LEASE + 8
"""Within twice the lease, plus the time that two shared cores need for the work itself."""


def accepted(node: Node) -> list[int]:
    rows = Attempt.objects.filter(node=node, outcome="succeeded")
    return list(rows.values_list("number", flat=True))


@pytest.mark.parametrize("who", ["child", "worker"])
def test_killed_in_the_middle_of_a_handler(start_worker, log: Log, finished, who):
    first = start_worker().wait_ready()
    node = signal(handlers.step.s("long", 3), subject="camera")
    (line,) = until(lambda: log.lines(event="start"))
    if who == "worker":
        second = start_worker()
        first.kill()
        second.wait_ready()
    else:
        os.kill(line["pid"], signals.SIGKILL)
    finished(node, RECOVERY)
    assert [a.outcome for a in node.attempts] == ["lost", "succeeded"]
    assert log.labels("start") == ["long", "long"]
    assert log.labels("end") == ["long"]
    assert node.retries == 0


@pytest.mark.parametrize("who", ["child", "worker"])
@pytest.mark.parametrize(
    "point", ["before_claim", "before_record", "recorded", "before_advance", "before_publish"]
)
def test_killed_at_a_point_of_the_engine(start_worker, log, finished, tmp_path, who, point):
    died = tmp_path / "died"
    env = {"DIE_AT": point, "DIE_FILE": str(died), "DIE": who}
    env = {f"BACKBEAT_TEST_{name}": value for name, value in env.items()}
    start_worker(env=env).wait_ready()
    if who == "worker":
        start_worker(env=env).wait_ready()
    node = signal(handlers.chain.s(3), subject="camera")
    finished(node, RECOVERY)
    assert died.exists()
    ended = Node.objects.filter(workflow=node.workflow, parent__isnull=False)
    assert {n.status for n in ended} == {"complete"}
    assert all(len(accepted(n)) == 1 for n in ended)


def test_killed_with_messages_prefetched(start_worker, log, finished):
    first = start_worker(size=1).wait_ready()
    nodes = [signal(handlers.step.s(f"n{n}", 0.2), subject=f"s{n}") for n in range(20)]
    until(lambda: log.lines(event="end"))
    first.kill()
    start_worker(size=2).wait_ready()
    for node in nodes:
        finished(node, RECOVERY)
    assert all(len(accepted(node)) == 1 for node in nodes)


def test_purged_with_five_hundred_in_flight(worker: Worker, log, finished):
    node = signal(handlers.fan_out.s(500, 0.01), subject="camera")
    until(lambda: len(log.lines(event="end")) > 20)
    assert current_app.control.purge() > 0
    finished(node, 300)
    assert log.labels().count("after") == 1
    assert Attempt.objects.filter(node__parent=node, outcome="succeeded").count() == 501


@pytest.mark.parametrize("number", [signals.SIGKILL, signals.SIGTERM])
def test_a_handler_that_kills_its_worker_again_and_again_is_failed(worker, log, finished, number):
    node = signal(handlers.killer.s(number), subject="camera")
    finished(node, 60, status="failed")
    assert [a.outcome for a in node.attempts] == ["lost"] * 3
    assert len(log.lines(event="start")) == 3
    assert node.retries == 0


def test_a_frozen_worker_is_fenced_off(start_worker, log, finished):
    first = start_worker(size=1).wait_ready()
    node = signal(handlers.step.s("frozen", 2), subject="camera")
    until(lambda: log.lines(event="start"))
    os.killpg(first.process.pid, signals.SIGSTOP)
    start_worker().wait_ready()
    finished(node, RECOVERY)
    os.killpg(first.process.pid, signals.SIGCONT)
    until(lambda: len(log.lines(event="end")) == 2)
    until(lambda: "stale attempt" in first.tail())
    node.refresh_from_db()
    assert accepted(node) == [2]


def test_warm_shutdown_finishes_what_runs(start_worker, log, finished):
    first = start_worker(size=1).wait_ready()
    node = signal(handlers.step.s("warm", 2), subject="camera")
    until(lambda: log.lines(event="start"))
    first.stop()
    finished(node, 30)
    assert accepted(node) == [1]


@pytest.mark.parametrize(
    ("pool", "env"),
    [
        ("prefork", {}),
        ("prefork", {"REMAP_SIGTERM": "SIGQUIT"}),
        ("gevent", {}),
        ("solo", {}),
    ],
    ids=["prefork", "prefork by SIGTERM", "gevent", "solo"],
)
def test_cold_shutdown_gives_the_attempt_back_uncounted(start_worker, log, pool, env):
    worker = start_worker(size=1, pool=pool, env=env).wait_ready()
    node = signal(handlers.patient.s(), subject="camera")
    until(lambda: log.lines(event="start"))
    os.kill(worker.process.pid, signals.SIGTERM if env else signals.SIGQUIT)
    worker.process.wait(timeout=pace.allowed(30))
    node.refresh_from_db()
    assert (node.status, node.retries, node.lost_attempts) == ("queued", 0, 0), worker.tail()
    assert [attempt.outcome for attempt in node.attempts] == ["given_back"]
    assert not log.lines(event="end")


def test_sigterm_to_children_and_worker_together_counts_no_attempt(start_worker, log):
    worker = start_worker(size=1).wait_ready()
    node = signal(handlers.patient.s(), subject="camera")
    until(lambda: log.lines(event="start"))
    os.killpg(worker.process.pid, signals.SIGTERM)
    worker.process.wait(timeout=pace.allowed(30))
    node.refresh_from_db()
    assert (node.status, node.retries, node.lost_attempts) == ("queued", 0, 0), worker.tail()
    assert [attempt.outcome for attempt in node.attempts] == ["given_back"]


def test_cold_shutdown_cannot_interrupt_threads(start_worker, log, tmp_path):
    worker = start_worker(size=1, pool="threads").wait_ready()
    node = signal(handlers.patient.s(), subject="camera")
    until(lambda: log.lines(event="start"))
    os.kill(worker.process.pid, signals.SIGQUIT)
    until(lambda: "Unrecoverable error" in worker.tail())
    (tmp_path / "end").touch()
    worker.process.wait(timeout=pace.allowed(30))
    node.refresh_from_db()
    assert [attempt.outcome for attempt in node.attempts] == ["succeeded"]


def test_gevent_workers_that_are_idle_end_well(start_worker):
    workers = [start_worker(size=4, pool="gevent").wait_ready() for _ in range(3)]
    for worker in workers:
        worker.stop()
    assert [worker.process.returncode for worker in workers] == [0, 0, 0]


def test_a_revoked_message_is_a_lost_message(worker, log, finished):
    if current_app.conf.broker_url.startswith("sqla"):
        pytest.skip("the embedded broker has no broadcast, so no remote control")
    node = signal(handlers.step.s("revoked"), subject="camera", delay=4)
    inspect = current_app.control.inspect(timeout=1)
    (scheduled,) = until(lambda: [s for s in (inspect.scheduled() or {}).values() if s])
    current_app.control.revoke(scheduled[0]["request"]["id"])
    finished(node, RECOVERY)
    assert log.labels() == ["revoked"]
    assert "Discarding revoked task" in worker.tail()


def test_another_worker_takes_over_the_sweep(start_worker, finished):
    from backbeat_celery.models import SweeperLease

    first = start_worker(size=1).wait_ready()
    holder = until(lambda: SweeperLease.objects.exclude(holder="").first()).holder
    start_worker(size=1).wait_ready()
    first.kill()
    until(lambda: SweeperLease.objects.exclude(holder__in=["", holder]).exists(), 60)
