"""Remote nodes on a real worker that has Celery and nothing of ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app, signature

from backbeat_celery import signal
from backbeat_celery.engine.external import remote
from backbeat_celery.inputs import tokens
from backbeat_celery.models import Node
from tests.real import handlers, other_worker
from tests.real.other_worker import OtherWorker
from tests.real.workers import FAST
from tests.waiting import until


@pytest.fixture
def start_other(tmp_path: Any) -> Iterator[Callable[[], OtherWorker]]:
    workers: list[OtherWorker] = []

    def start() -> OtherWorker:
        workers.append(OtherWorker(tmp_path))
        return workers[-1].wait_ready()

    yield start
    for worker in workers:
        worker.kill()
    with current_app.connection_for_write() as connection:
        for queue in {worker.queue for worker in workers}:
            connection.default_channel.queue_delete(queue)


@pytest.fixture
def other(start_other: Callable[[], OtherWorker]) -> OtherWorker:
    return start_other()


@pytest.fixture
def quick_timeout(settings: Any) -> dict[str, Any]:
    """Settings by which an attempt without an answer is over soon."""
    settings.BACKBEAT = {**FAST, "DEFAULT_TIMEOUT": 5, "RETRY_DELAY": 0.1}
    return settings.BACKBEAT


def call(name: str, other: OtherWorker, *args: Any, **kwargs: Any) -> Node:
    return signal(
        signature(name, args=args, kwargs=kwargs, queue=other.queue), subject="camera", name="w"
    )


def test_the_other_side_has_nothing_of_ours():
    probe = """
from importlib.util import find_spec
import celery
print(find_spec("django"), find_spec("backbeat_celery"))
"""
    run = subprocess.run(
        [str(other_worker.python()), "-c", probe],
        cwd=other_worker.HERE,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "None None"


def test_its_result_comes_back_and_the_tree_goes_on(worker, other, log, finished):
    node = call("other.add", other, 2, y=3)
    behind = signal(handlers.step.s("behind"), subject="camera", name="w")
    finished(node)
    assert (node.result, node.attempt, other.lines()) == (5, 1, ["add 2 3"])
    finished(behind)
    assert log.labels() == ["behind"]


def test_a_hundred_calls_come_back_once_each(worker, other, finished):
    node = signal(handlers.remote_fan_out.s(100, other.queue), subject="camera")
    finished(node, 120)
    assert sorted(node.children.values_list("result", flat=True)) == [n + 1 for n in range(100)]
    assert len(other.lines()) == 100


def test_its_failure_comes_back_and_is_retried_until_exhausted(
    start_worker, other, finished, settings
):
    settings.BACKBEAT = {**FAST, "MAX_RETRIES": 1, "RETRY_DELAY": 0.1}
    start_worker(settings=settings.BACKBEAT).wait_ready()
    node = finished(call("other.fail", other), status="failed")
    assert (node.retries, other.lines()) == (2, ["fail", "fail"])
    assert "worker's log" in node.error


def test_its_own_retry_keeps_the_way_back(worker, other, finished):
    node = finished(call("other.retry", other))
    assert (node.result, node.attempt, other.lines()) == ("at last", 1, ["retry", "retry"])


def test_a_result_beyond_the_limit_leaves_a_note_and_no_result(worker, other, finished):
    node = finished(call("other.huge", other, 300_000))
    [attempt] = node.attempts
    assert (node.result, attempt.outcome) == (None, "succeeded")
    assert "MAX_PAYLOAD" in attempt.error


def test_a_call_that_is_killed_at_its_time_limit_comes_back_as_failed(worker, other, finished):
    stuck = signature("other.stuck", queue=other.queue, time_limit=1)
    node = finished(signal(stuck, subject="camera"), status="retrying")
    assert [a.outcome for a in node.attempts] == ["failed"]


def test_a_worker_that_is_killed_is_healed_by_the_timeout(
    start_worker, start_other, finished, quick_timeout
):
    start_worker(settings=quick_timeout).wait_ready()
    victim = start_other()
    node = call("other.slow", victim, 600)
    until(lambda: victim.lines() == ["slow"])
    victim.kill()
    start_other()
    finished(node)
    assert node.result == "second"
    assert [a.outcome for a in node.attempts][:1] == ["timed_out"]


def test_a_late_answer_of_an_older_attempt_is_dropped(
    start_worker, other, finished, quick_timeout, tmp_path
):
    ours = start_worker(settings=quick_timeout).wait_ready()
    gate = tmp_path / "gate"
    node = finished(call("other.late", other, str(gate)))
    assert node.result == "second"
    gate.touch()
    until(lambda: "Dropping a late report" in ours.tail(), what=ours.tail)
    node.refresh_from_db()
    assert (node.result, node.retries) == ("second", 1)


def test_a_call_sent_while_nobody_listens_waits_in_the_queue(worker, start_other, finished):
    first = start_other()
    first.kill()
    node = finished(call("other.add", first, 1), status="running")
    start_other()
    finished(node)
    assert node.attempt == 1


def test_forged_reports_over_the_broker_change_nothing(worker, other, finished):
    node = call("other.slow", other, 600)
    until(other.lines)
    until(lambda: Node.objects.filter(pk=node.pk, lease_expires_at=None, status="running"))
    node.refresh_from_db()
    genuine = tokens.sign(tokens.Ticket("default", node.pk, 1, node.claim_id))
    for forged in ("", "x:y:z", genuine[:-1], genuine.swapcase(), None, 7, {"a": 1}):
        current_app.send_task(remote.REMOTE_DONE, args=("forged",), kwargs={"token": forged})
        current_app.send_task(remote.REMOTE_FAILED, args=("forged",), kwargs={"token": forged})
    current_app.send_task(remote.REMOTE_DONE, args=(), kwargs={})
    current_app.send_task(remote.REMOTE_DONE, args=("genuine",), kwargs={"token": genuine})
    finished(node)
    assert (node.result, node.retries) == ("genuine", 0)
