"""How a handler may end: Ignore, Reject, exits, and results or errors that are hard to store."""

from __future__ import annotations

import pytest
from celery.exceptions import Ignore, Reject
from celery.signals import task_success

from backbeat_celery import current_node, signal
from backbeat_celery.models import Workflow
from tests import workflows


def test_ignore_completes_without_a_result(send):
    node = send(workflows.ignoring)
    assert (node.status, node.outcome, node.result) == ("complete", "succeeded", None)


def test_ignore_keeps_the_children(script, send):
    def work(task):
        current_node().spawn(workflows.done.s())
        raise Ignore

    script(work)
    assert send(workflows.scripted).children.get().status == "complete"


def test_reject_fails_for_good(send):
    node = send(workflows.rejecting.s(False))
    assert (node.status, node.attempt) == ("failed", 1)


def test_reject_with_requeue_gives_the_attempt_back_a_few_times(sim, send):
    node = send(workflows.rejecting.s(True))
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, node.retries, node.attempt) == ("failed", 0, 3)
    assert [a.outcome for a in node.attempts] == ["given_back"] * 3


def test_giving_back_counts_in_a_row_only(sim, script, send):
    def work(task):
        if current_node().attempt in {1, 2, 4, 5}:
            raise Reject("later", requeue=True)
        if current_node().attempt == 3:
            raise RuntimeError

    script(work)
    node = send(workflows.scripted)
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, node.attempt, node.retries) == ("complete", 6, 1)


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), GeneratorExit(), BaseException()])
def test_what_is_no_exception_is_a_failure_of_the_node(script, send, error):
    def work(task):
        raise error

    script(work)
    node = send(workflows.scripted)
    assert (node.status, node.retries) == ("retrying", 1)
    assert type(error).__name__ in node.error


def unstorable():
    from django.http import HttpResponse

    return {
        "set": {1},
        "nan": float("nan"),
        "huge": "x" * 300_000,
        "response": HttpResponse("ok"),
        "async result": workflows.done.AsyncResult("8d6b"),
        "circle": (ring := [], ring.append(ring))[0],
    }


@pytest.mark.parametrize("what", unstorable())
@pytest.mark.parametrize(
    "task",
    [workflows.scripted, workflows.scripted_atomic, workflows.scripted_plain, workflows.bundled],
)
def test_a_result_that_cannot_be_stored_never_repeats_the_effect(sim, send, script, what, task):
    script(lambda task: unstorable()[what])
    script(lambda task, number: unstorable()[what], name="bundled")
    nodes = [signal(task.s(), subject=f"camera {number}") for number in range(2)]
    sim.run()
    sim.advance(days=1)
    for node in nodes:
        node.refresh_from_db()
        assert (node.status, node.outcome, node.result) == ("complete", "succeeded", None)
        assert (node.attempt, node.retries, node.error) == (1, 0, None)
        [attempt] = node.attempts
        assert attempt.outcome == "succeeded"
        assert attempt.error.startswith(f"The result of {task.name} ")
        assert "None" in attempt.error
    assert len(sim.calls) == 2


def test_children_of_a_handler_whose_result_cannot_be_stored_are_kept(send, script):
    def work(task):
        current_node().spawn(workflows.done.s(1))
        return {1}

    script(work)
    node = send(workflows.scripted)
    assert (node.status, node.children.get().status) == ("complete", "complete")
    assert "The result" in node.attempts[0].error


def test_a_result_that_cannot_be_stored_is_logged_once(send, script, caplog, monkeypatch):
    monkeypatch.setattr("backbeat_celery.engine.outcomes._warned", set())
    script(lambda task: {1})
    for _ in range(3):
        send(workflows.scripted)
    told = [one for one in caplog.records if "The result of" in one.getMessage()]
    assert [(one.levelname, one.name) for one in told] == [
        ("WARNING", "backbeat_celery.engine.outcomes")
    ]


@pytest.mark.parametrize("task", [workflows.scripted, workflows.scripted_atomic])
@pytest.mark.parametrize(
    "mistake",
    [
        lambda: current_node().spawn(workflows.done.s({1})),
        lambda: current_node().spawn("not a signature"),
        lambda: signal(workflows.done.s().set(chord=3), subject="other"),
        lambda: signal(workflows.done, subject=""),
        lambda: current_node().completion_token(),
    ],
)
def test_an_error_of_ours_that_a_handler_lets_through_fails_for_good(send, script, task, mistake):
    script(lambda task: mistake())
    node = send(task)
    assert (node.status, node.attempt, node.retries) == ("failed", 1, 1)
    assert node.history[-1].reason == "failed for good"


def test_an_error_of_the_moment_is_retried(sim, send, script):
    def work(task):
        if current_node().attempt == 1:
            send_to_closed()
        return "later"

    def send_to_closed():
        workflow = Workflow.objects.for_subject("other", "shop")
        workflow.signal(workflows.awaiting)
        workflow.close()
        workflow.signal(workflows.done)

    script(work)
    node = send(workflows.scripted)
    assert (node.status, node.retries) == ("retrying", 1)
    assert "WorkflowClosed" in node.error


def test_a_result_with_a_nul_is_stored(send):
    assert send(workflows.returning.s("nul")).result == "a\x00b"


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * 100_000])
def test_an_error_that_no_database_stores_is_stored_nearly(script, send, text):
    def work(task):
        raise RuntimeError(text)

    script(work)
    node = send(workflows.scripted)
    assert node.status == "retrying"
    assert len(node.error) < 20_000


def test_an_error_without_a_repr_is_recorded_all_the_same(script, send):
    class Mute(Exception):
        def __repr__(self):
            raise RuntimeError("no words")

        __str__ = __repr__

    def work(task):
        raise Mute

    script(work)
    assert send(workflows.scripted).status == "retrying"


def test_an_interrupt_that_the_handler_raises_is_its_own_failure(sim):
    node = signal(workflows.interrupting.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert node.status == "failed"
    assert "KeyboardInterrupt" in node.error


@pytest.mark.parametrize("is_final", [False, True])
def test_no_log_quotes_what_is_to_be_hidden(sim, script, settings, caplog, is_final):
    settings.BACKBEAT = {"REDACT": ["name"], "MAX_RETRIES": 3}

    def work(task):
        try:
            raise LookupError("no card canary-4711")
        except LookupError as exc:
            raise (Reject("canary-4711") if is_final else RuntimeError("canary-4711")) from exc

    script(work, name="canary-4711")
    node = signal(workflows.scripted.s(name="canary-4711"), subject="camera")
    with caplog.at_level("DEBUG"):
        sim.run()
        sim.advance(minutes=5)
    node.refresh_from_db()
    assert node.status == "failed"
    assert caplog.records
    assert "canary" not in caplog.text


@pytest.mark.parametrize("result", [{"deep": [{"name": "canary-4711"}]}, "for canary-4711", 4711])
def test_no_log_quotes_a_result_that_is_to_be_hidden(sim, script, settings, caplog, result):
    settings.BACKBEAT = {"REDACT": ["name"]}
    told = []
    script(lambda task: result, name="canary-4711")
    node = signal(workflows.scripted.s(name="canary-4711"), subject="camera")
    task_success.connect(lambda result, **_: told.append(result), weak=False, dispatch_uid="told")
    try:
        with caplog.at_level("DEBUG"):
            sim.run()
    finally:
        task_success.disconnect(dispatch_uid="told")
    node.refresh_from_db()
    assert node.result == result
    assert "succeeded" in caplog.text
    assert "canary" not in f"{caplog.text} {told}"
    assert (told == [result]) == (result == 4711)
