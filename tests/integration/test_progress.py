"""A handler tells how far it is: cheaply, and without any harm to it."""

from __future__ import annotations

import logging

import pytest
from django.db import OperationalError, connection, transaction

from backbeat_celery import current_node, signal
from backbeat_celery.engine import progress
from backbeat_celery.exceptions import BadInput, NotInNode
from backbeat_celery.models import Node
from tests import workflows
from tests.integration.test_statements import Statements


class Clock:
    """Stands in for the `time` of the throttle."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def written(monkeypatch):
    """What was written while the handler ran, in order."""
    reports = []
    write = progress.ProgressReport._write

    def noted(self, told):
        write(self, told)
        reports.append(self._claim.progress)

    monkeypatch.setattr(progress.ProgressReport, "_write", noted)
    return reports


def stored():
    """The progress in the row, as somebody else would read it now."""
    return Node.objects.get(pk=current_node().id).progress


@pytest.fixture
def run(sim, script):
    """Run a handler that does this; give its node."""

    def run_handler(work, task=workflows.scripted):
        script(lambda task: work())
        node = signal(task.s(), subject="camera")
        sim.run()
        node.refresh_from_db()
        return node

    return run_handler


def test_the_row_says_done_total_message_and_when(sim, run):
    seen = []

    def work():
        current_node().progress(3, 10, "third page")
        seen.append(stored())

    node = run(work)
    assert seen == [{"done": 3, "total": 10, "message": "third page", "at": sim.now}]
    assert node.progress == seen[0]


def test_a_total_may_be_unknown_and_a_message_left_out(run):
    assert run(lambda: current_node().progress(0.5)).progress["total"] is None


def test_a_loop_writes_once_a_second_and_its_end(run, clock, written):
    def work():
        for n in range(1, 1001):
            clock.seconds += 0.01
            current_node().progress(n, 1000)

    node = run(work)
    assert 10 <= len(written) <= 12
    assert (written[0]["done"], written[-1]["done"]) == (1, 1000)
    assert node.progress["done"] == 1000


def test_a_loop_costs_no_statement_between_two_writes(run, clock):
    counts = []

    def work():
        current_node().progress(0, 1000)
        with Statements() as statements:
            for n in range(1, 1000):
                current_node().progress(n, 1000)
        counts.append(len(statements.texts))

    run(work)
    assert counts == [0]


def test_what_was_not_written_comes_with_the_outcome_at_no_cost(sim, script):
    def cost(work):
        script(work)
        signal(workflows.scripted.s(), subject="camera")
        with Statements() as statements:
            sim.step()
        return len(statements.texts)

    def loop(task):
        for n in range(50):
            current_node().progress(n, 100)

    assert cost(loop) == cost(lambda task: None) + 1
    assert Node.objects.order_by("created_at").exclude(progress=None).get().progress["done"] == 49


def test_a_new_message_goes_through_at_once_but_not_for_ever(run, clock, written):
    def work():
        for n in range(100):
            current_node().progress(n, 1000, f"page {n}")

    run(work)
    assert [report["message"] for report in written] == [f"page {n}" for n in range(5)]


def test_the_end_is_written_at_once_but_not_again_and_again(run, clock, written):
    def work():
        current_node().progress(1, 3)
        current_node().progress(3, 3)
        for n in range(4, 100):
            current_node().progress(n, n)

    node = run(work)
    assert [report["done"] for report in written] == [1, 3]
    assert node.progress["done"] == 99


def test_each_attempt_begins_without_progress(sim, run):
    seen = []

    def work():
        seen.append(stored())
        current_node().progress(current_node().attempt, 2)
        if current_node().attempt == 1:
            raise RuntimeError

    node = run(work)
    assert node.progress["done"] == 1  # where the failed attempt stood
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert seen == [None, None]
    assert node.progress["done"] == 2


@pytest.mark.parametrize("task", [workflows.scripted_atomic, workflows.scripted])
def test_in_the_handlers_own_transaction_it_waits_for_the_outcome(run, written, task):
    def work():
        with transaction.atomic():
            current_node().progress(7, 10)

    node = run(work, task)
    assert written == []
    assert node.progress["done"] == 7


def test_a_parent_keeps_its_progress(run):
    def work():
        current_node().progress(1, 1)
        current_node().spawn(workflows.done.s())

    node = run(work)
    assert node.status == "complete"
    assert node.progress["done"] == 1


def test_an_attempt_that_was_fenced_off_writes_nothing(run):
    def work():
        Node.objects.filter(pk=current_node().id).update(claim_id=None)
        current_node().progress(7, 10)

    assert run(work).progress is None


@pytest.mark.parametrize(
    "arguments",
    [(-1,), ("1",), (True,), (float("nan"),), (float("inf"),), (1, -1), (1, "x"), (1, 2, None)],
)
def test_bad_input_is_refused(run, arguments):
    refused = []

    def work():
        with pytest.raises(BadInput, match="progress: ") as raised:
            current_node().progress(*arguments)
        refused.append(raised)

    assert run(work).progress is None
    assert refused


@pytest.mark.parametrize(
    ("message", "kept"), [("x" * 300, "x" * 254 + "…"), ("a\x00b", "a�b"), ("a\ud800b", "a?b")]
)
def test_data_in_a_message_never_fails_the_handler(run, message, kept):
    node = run(lambda: current_node().progress(1, 2, message))
    assert (node.status, node.progress["message"]) == ("complete", kept)


def test_a_database_that_hiccups_does_not_fail_the_handler(run, monkeypatch, caplog):
    def work():
        with monkeypatch.context() as patch:
            patch.setattr(
                "backbeat_celery.models.querysets.NodeQuerySet.update",
                lambda *a, **k: (_ for _ in ()).throw(OperationalError("gone")),
            )
            current_node().progress(1, 10)

    with caplog.at_level(logging.WARNING):
        node = run(work)
    assert node.status == "complete"
    assert node.progress["done"] == 1  # it comes with the outcome
    assert "Cannot write the progress" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_it_is_seen_while_the_handler_runs_and_holds_no_lock(script):
    """Without a transaction around the test: a connection of its own sees what is committed."""
    from backbeat_celery.testing import Simulation

    seen = []

    def work(task):
        current_node().progress(1, 2)
        assert not connection.in_atomic_block
        seen.append(stored()["done"])

    script(work)
    with Simulation() as sim:
        signal(workflows.scripted.s(), subject="camera")
        sim.run()
    assert seen == [1]


def test_only_a_handler_has_progress():
    with pytest.raises(NotInNode):
        current_node().progress(1)


def test_it_is_a_use_of_the_current_node_at_which_a_worker_may_die(sim, script):
    script(lambda task: current_node().progress(1, 2))
    node = signal(workflows.scripted.s(), subject="camera")
    sim.kill_next("in_handler")
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.progress) == ("running", None)


class Array:
    """As those of numpy and pandas: neither true nor false."""

    def __bool__(self):
        raise ValueError("The truth value of an array is ambiguous.")


@pytest.mark.parametrize("task", [workflows.scripted, workflows.scripted_plain])
@pytest.mark.parametrize(
    ("state", "meta", "told"),
    [
        ("PROGRESS", {"current": 7, "total": 50}, (7, 50, "")),
        ("PROGRESS", {"done": 1.5, "current": 9}, (1.5, None, "")),
        ("PROGRESS", {"percent": 30}, (30, 100, "")),
        ("PROGRESS", {"current": 7, "total": 50, "status": "Leica"}, (7, 50, "Leica")),
        ("UPLOADING", {"current": 7}, (7, None, "UPLOADING")),
        ("UPLOADING", {"message": "Leica"}, (0, None, "UPLOADING: Leica")),
        ("PROGRESS", {"current": "7 of 9", "total": -1}, (0, None, "")),
        ("PROGRESS", {"current": float("nan"), "total": True}, (0, None, "")),
        ("PROGRESS", {"current": 10**5000, "total": 9}, (0, 9, "")),
        ("PROGRESS", {"current": 7, "step": Array()}, (7, None, "")),
        ("PROGRESS", "half of it", (0, None, "half of it")),
        ("PROGRESS", None, (0, None, "")),
    ],
)
def test_what_update_state_says_is_the_nodes_progress(send, script, task, state, meta, told):
    seen = []

    def work(task):
        task.update_state(state=state, meta=meta)
        seen.append(Node.objects.get(task=task.name).progress)

    script(work)
    node = send(task)
    assert node.status == "complete"
    [said] = seen
    assert (said["done"], said["total"], said["message"]) == told
    assert (node.progress["done"], node.progress["total"]) == told[:2]


def test_the_state_of_another_task_is_none_of_the_nodes(send, script):
    script(lambda task: task.update_state("another", "PROGRESS", {"current": 7}))
    assert send(workflows.scripted).progress is None
