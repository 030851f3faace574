"""Bundles: several short nodes a message, each with an outcome of its own."""

from __future__ import annotations

import pytest
from celery import current_app
from celery.exceptions import WorkerShutdown
from django.db import Error as AnyDatabaseError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.engine.delivery.bundling import bundle_size, bundled
from backbeat_celery.models import Attempt, Node
from backbeat_celery.sql import session
from backbeat_celery.worker import bundle
from tests import workflows


@pytest.fixture
def fan_out(sim, script):
    """Spawn that many nodes of a bundled task; what they do is the script."""

    def spawn(width, work=None, **options):
        if work is not None:
            script(work, "bundled")
        options.setdefault("mode", "non_blocking")
        signatures = [workflows.bundled.s(n) for n in range(width)]
        script(lambda task: len(current_node().spawn_many(signatures, **options)))
        node = signal(workflows.scripted.s(), subject="camera")
        sim.step()
        return node

    return spawn


def children():
    return Node.objects.filter(task=workflows.bundled.name).order_by("seq")


def numbers(sim):
    return [call.args[0] for call in sim.calls if call.task == workflows.bundled.name]


def statuses():
    return list(children().values_list("status", flat=True))


def test_one_message_stands_for_several_nodes(sim, fan_out):
    node = fan_out(12)
    assert sim.in_flight == 3
    sim.run()
    assert sorted(numbers(sim)) == list(range(12))
    assert statuses() == ["complete"] * 12
    assert list(children().values_list("result", flat=True)) == list(range(12))
    node.refresh_from_db()
    assert node.status == "complete"


def test_the_nodes_of_a_message_run_in_order(sim, fan_out):
    fan_out(5)
    assert sim.step()
    assert numbers(sim) == [0, 1, 2, 3, 4]


def test_each_node_has_a_history_and_an_attempt_of_its_own(sim, fan_out):
    fan_out(3)
    sim.run()
    for child in children():
        steps = [(step.from_status, step.to_status) for step in child.history]
        assert steps == [("", "queued"), ("queued", "running"), ("running", "complete")]
        assert [attempt.outcome for attempt in child.attempts] == ["succeeded"]


def fails_at(*failing):
    def work(task, number):
        if number in failing and task.request.retries == 0:
            raise RuntimeError(f"number {number}")
        return current_node().attempt

    return work


def test_a_failure_is_that_nodes_alone(sim, fan_out):
    fan_out(5, fails_at(2))
    sim.run()
    assert statuses() == ["complete", "complete", "retrying", "complete", "complete"]
    assert "number 2" in children().get(status="retrying").error
    sim.advance(minutes=1)
    assert statuses() == ["complete"] * 5
    assert [child.attempt for child in children()] == [1, 1, 2, 1, 1]


def test_those_who_failed_are_alone_when_they_are_tried_again(sim, fan_out):
    fan_out(5, fails_at(1, 2, 3))
    assert sim.step()
    assert sim.in_flight == 3
    sim.advance(minutes=1)
    assert statuses() == ["complete"] * 5


def test_a_durable_retry_is_that_nodes_alone(sim, fan_out):
    def work(task, number):
        if number == 1 and task.request.retries == 0:
            raise task.retry(countdown=7)

    fan_out(3, work)
    sim.run()
    assert statuses() == ["complete", "retrying", "complete"]
    assert (children().get(seq=1).fires_at - sim.now).total_seconds() == 7


def test_a_node_that_is_not_to_be_had_any_more_is_left_out(sim, fan_out):
    fan_out(5)
    children().get(seq=3).cancel()
    sim.run()
    assert numbers(sim) == [0, 1, 2, 4]
    assert statuses() == ["complete", "complete", "complete", "canceled", "complete"]


def test_nodes_of_a_paused_workflow_are_paused(sim, fan_out):
    node = fan_out(5)
    node.workflow.pause()
    sim.run()
    assert (numbers(sim), statuses()) == ([], ["paused"] * 5)
    node.workflow.resume()
    sim.run()
    assert statuses() == ["complete"] * 5


def test_a_message_that_comes_twice_runs_nothing_twice(sim, fan_out):
    fan_out(7)
    sim.duplicate_messages()
    sim.run()
    assert sorted(numbers(sim)) == list(range(7))
    assert Attempt.objects.filter(node__in=children()).count() == 7


def test_a_message_that_is_lost_is_sent_again_for_all_of_its_nodes(sim, fan_out):
    fan_out(7)
    assert sim.lose_messages() == 2
    sim.advance(minutes=2)
    assert sorted(numbers(sim)) == list(range(7))
    assert statuses() == ["complete"] * 7


def test_nodes_of_a_bundle_spawn_children(sim, fan_out):
    fan_out(3, lambda task, number: current_node().spawn(workflows.done.s(number)) and None)
    sim.run()
    assert statuses() == ["complete"] * 3
    assert Node.objects.filter(task=workflows.done.name, status="complete").count() == 3


@pytest.mark.parametrize("point", ["before_handler", "in_handler", "after_handler"])
def test_a_worker_that_dies_in_a_bundle_loses_attempts_and_nothing_else(sim, fan_out, point):
    fan_out(5)
    sim.kill_next(point)
    sim.run()
    assert statuses() == ["running"] * 5
    sim.advance(minutes=2)
    assert statuses() == ["complete"] * 5
    assert [child.attempt for child in children()] == [2] * 5
    assert [child.retries for child in children()] == [0] * 5


def test_a_bundle_that_runs_long_records_what_it_has(sim, fan_out, monkeypatch):
    monkeypatch.setattr(bundle, "RECORD_AFTER", -1.0)
    seen = []

    def work(task, number):
        seen.append(children().filter(status="complete").count())

    fan_out(4, work)
    sim.run()
    assert seen == [0, 1, 2, 3]


def test_a_worker_that_shuts_down_gives_back_what_it_has_not_begun(sim, fan_out):
    def work(task, number):
        if number == 2 and current_node().attempt == 1:
            raise WorkerShutdown

    fan_out(5, work)
    with pytest.raises(WorkerShutdown):
        sim.run()
    assert statuses() == ["complete", "complete", "queued", "queued", "queued"]
    sim.advance(minutes=1)
    assert statuses() == ["complete"] * 5
    assert sorted(numbers(sim)) == [0, 1, 2, 2, 3, 4]


def test_blocking_nodes_of_several_workflows_share_a_message(sim):
    nodes = signal_many([(workflows.bundled.s(n), {"subject": str(n)}) for n in range(3)])
    assert sim.in_flight == 1
    nodes += [signal(workflows.bundled.s(n), subject=str(n)) for n in range(3, 6)]
    assert sim.in_flight == 4
    sim.lose_messages()
    sim.advance(minutes=2)
    assert sorted(numbers(sim)) == list(range(6))
    assert {Node.objects.get(pk=node.pk).status for node in nodes} == {"complete"}


def test_blocking_nodes_of_a_message_let_those_behind_them_go_on(sim):
    subjects = [str(n) for n in range(4)]
    signal_many([(workflows.bundled.s(0), {"subject": name}) for name in subjects])
    behind = [(1, "non_blocking"), (2, "blocking"), (3, "blocking")]
    for number, mode in behind:
        items = [(workflows.bundled.s(number), {"subject": name}) for name in subjects]
        signal_many([(call, {**said, "mode": mode}) for call, said in items])
    sim.step()
    for number, status in enumerate(["complete", "queued", "queued", "ready"]):
        found = children().filter(args=[number]).values_list("status", flat=True)
        assert list(found) == [status] * 4
    sim.run()
    assert sorted(numbers(sim)) == sorted([0, 1, 2, 3] * 4)


def test_what_stands_behind_a_flag_is_recorded_by_itself(sim, script):
    for name in "ab":
        signal(workflows.scripted.s(), subject=name, mode="non_blocking")

    def work(task):
        current_node().spawn(workflows.bundled.s(1))
        if current_node().subject == "a":
            current_node().flag("in between")
        current_node().spawn(workflows.done.s())

    script(work)
    sim.step()
    sim.step()
    # What the sweeper sends again is one message for both.
    sim.lose_messages()
    sim.advance(minutes=2)
    assert statuses() == ["complete"] * 2
    assert not Node.objects.filter(parent=None).exclude(status="waiting").exists()
    assert Node.objects.filter(task=workflows.done.name, status="complete").count() == 2


def publication(sim, task=workflows.bundled, **options):
    node = Node(task=task.name, args=[], kwargs={}, options=options)
    return Publication.of(node, sim.now)


def test_what_is_not_due_or_not_the_first_attempt_is_not_bundled(sim):
    first, second, late = (publication(sim) for _ in range(3))
    object.__setattr__(second, "attempt", 2)
    object.__setattr__(late, "countdown", 5.0)
    assert len(bundled([first, second, late, first])) == 3


@pytest.mark.parametrize("option", ["time_limit", "soft_time_limit"])
def test_a_limit_of_one_message_is_not_shared(sim, option, monkeypatch):
    assert bundle_size(publication(sim)) == 5
    assert bundle_size(publication(sim, **{option: 5})) == 1
    monkeypatch.setattr(type(workflows.bundled._get_current_object()), option, 5)
    assert bundle_size(publication(sim)) == 1


def test_an_ordinary_task_has_messages_of_its_own(sim):
    assert len(bundled([publication(sim, workflows.done)] * 3)) == 3


def test_a_node_that_is_canceled_while_others_run_is_not_begun(sim, fan_out, monkeypatch):
    monkeypatch.setattr(bundle, "RECORD_AFTER", -1.0)

    def work(task, number):
        if number == 1:
            children().get(seq=3).cancel()

    fan_out(5, work)
    sim.run()
    assert numbers(sim) == [0, 1, 2, 4]
    assert statuses() == ["complete", "complete", "complete", "canceled", "complete"]


def test_a_node_that_was_canceled_in_vain_is_discarded_alone(sim, fan_out):
    def work(task, number):
        if number == 1:
            children().get(seq=0).cancel()
            children().get(seq=1).cancel()

    fan_out(3, work)
    sim.run()
    assert statuses() == ["canceled", "canceled", "complete"]


def test_the_last_progress_is_recorded_with_each_outcome(sim, fan_out):
    fan_out(3, lambda task, number: current_node().progress(number, 3))
    sim.run()
    assert [child.progress["done"] for child in children()] == [0, 1, 2]


def test_a_task_that_became_atomic_meanwhile_runs_one_by_one(sim, fan_out, monkeypatch):
    node = fan_out(3)
    monkeypatch.setattr(
        type(workflows.bundled._get_current_object()), "atomic", True, raising=False
    )
    sim.run()
    assert numbers(sim) == [0]
    sim.advance(minutes=2)
    assert statuses() == ["complete"] * 3
    node.refresh_from_db()
    assert node.status == "complete"


@pytest.mark.exact
def test_a_bundle_is_claimed_and_recorded_in_few_statements(sim, fan_out):
    if not session.is_available("default"):
        pytest.skip("on PostgreSQL alone")
    fan_out(10)
    with CaptureQueriesContext(connection) as queries:
        sim.step()
    frame = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
    texts = [q["sql"] for q in queries.captured_queries if not q["sql"].startswith(frame)]
    assert len(texts) <= 3, texts


@pytest.mark.exact
@pytest.mark.parametrize("count", [2, 5])
def test_blocking_nodes_of_a_bundle_are_recorded_in_few_statements(sim, count):
    if not session.is_available("default"):
        pytest.skip("on PostgreSQL alone")
    signal_many([(workflows.bundled.s(n), {"subject": str(n)}) for n in range(count)])
    with CaptureQueriesContext(connection) as queries:
        sim.step()
    assert statuses() == ["complete"] * count
    texts = [q["sql"] for q in queries.captured_queries]
    assert len([text for text in texts if "UPDATE" in text and "SET status" in text]) == 2
    assert len([text for text in texts if "FOR NO KEY UPDATE" in text]) == 2, texts


def test_expected_errors_are_logged_without_traceback(sim, fan_out, caplog, monkeypatch):
    task = current_app.tasks[workflows.bundled.name]
    monkeypatch.setattr(task, "throws", (KeyError,))
    monkeypatch.setattr(task, "dont_autoretry_for", (LookupError, ValueError), raising=False)

    def work(task, number):
        if number:
            raise [KeyError, ValueError][number - 1](number)

    caplog.set_level("INFO")
    fan_out(3, work)
    sim.run()
    logged = [r for r in caplog.records if "has failed" in r.message]
    assert [(r.levelname, bool(r.exc_info)) for r in logged] == [("ERROR", False), ("ERROR", True)]
    assert statuses() == ["complete", "failed", "failed"]


def test_a_bundle_that_cannot_be_recorded_together_is_recorded_one_by_one(
    sim, fan_out, monkeypatch, caplog
):
    """Two are done and one has failed; what is wrong with the statement for all is not theirs."""

    def broken(ended):
        raise LookupError("a fault of ours")

    monkeypatch.setattr(bundle, "record_all_apart", broken)
    fan_out(3, fails_at(1))
    sim.run()

    assert statuses() == ["complete", "retrying", "complete"]
    assert "Cannot record 3 nodes together." in caplog.text
    assert [len(child.attempts) for child in children()] == [1, 1, 1]


def test_a_bundle_that_no_database_records_runs_again(sim, fan_out, monkeypatch):
    original = bundle.record_all_apart
    outages = [1]

    def broken(ended):
        if outages:
            outages.clear()
            raise AnyDatabaseError("no route to the database")
        return original(ended)

    monkeypatch.setattr(bundle, "record_all_apart", broken)
    fan_out(3)
    sim.run()
    assert statuses() == ["running"] * 3
    sim.advance(minutes=5)

    assert statuses() == ["complete"] * 3
    assert sorted(numbers(sim)) == [0, 0, 1, 1, 2, 2]
