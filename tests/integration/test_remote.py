"""Remote nodes: tasks that only another code base knows."""

from __future__ import annotations

from uuid import uuid4

import pytest
from celery import current_app, signature
from celery.app.task import Context
from kombu.exceptions import OperationalError

from backbeat_celery import current_node, signal, tasks
from backbeat_celery.engine.after_commit import DISPATCH
from backbeat_celery.engine.claim import NodeMessage, claim
from backbeat_celery.engine.external import remote
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.inputs import tokens
from backbeat_celery.inputs.policy import policy_by_name
from backbeat_celery.models import Node
from tests import workflows

OTHER = signature("other.add", args=[2], kwargs={"y": 3}, queue="other")


@pytest.fixture
def handed_over(sim, monkeypatch):
    """What has been sent to the other code base: task and message."""
    sent = []
    monkeypatch.setattr(sim, "hand_over", lambda task, **message: sent.append((task, message)))
    return sent


@pytest.fixture
def sent(sim):
    """A remote node whose call has been handed over."""
    node = signal(OTHER, subject="camera", name="w")
    sim.run()
    return fresh(node)


def fresh(node):
    node.refresh_from_db()
    return node


def token_of(node):
    return tokens.sign(tokens.Ticket("default", node.pk, node.attempt, node.claim_id))


def test_the_call_is_handed_over_once_and_its_outcome_awaited(sim, handed_over):
    node = signal(OTHER, subject="camera")
    assert (node.remote, node.task, node.workflow.name) == (True, "other.add", "other.add")
    sim.duplicate_messages()
    sim.advance(minutes=5)
    fresh(node)
    assert (node.status, node.attempt, node.lease_expires_at) == ("running", 1, None)
    ((task, message),) = handed_over
    assert (task, message["args"], message["kwargs"]) == ("other.add", [2], {"y": 3})
    assert message["queue"] == "other"
    (call,) = sim.calls
    assert (call.task, call.args, call.kwargs) == ("other.add", [2], {"y": 3})


def test_what_it_returned_comes_back_and_the_tree_goes_on(sim, sent):
    behind = signal(workflows.done.s(), subject="camera", name="w")
    tasks.remote_done(5, token=token_of(sent))
    sim.run()
    assert (fresh(sent).status, sent.result, fresh(behind).status) == ("complete", 5, "complete")


def test_a_failure_comes_back_and_is_retried(sim, sent):
    tasks.remote_failed("the-task-id", token=token_of(sent))
    assert (fresh(sent).status, sent.retries) == ("retrying", 1)
    assert "the-task-id" in sent.error
    sim.advance(seconds=40)
    assert (fresh(sent).status, sent.attempt) == ("running", 2)
    tasks.remote_done(None, token=token_of(sent))
    assert fresh(sent).status == "complete"


def test_nothing_comes_back_and_the_timeout_heals_it(sim, sent):
    late = token_of(sent)
    sim.advance(minutes=61)
    assert fresh(sent).attempts[0].outcome == "timed_out"
    assert (sent.status, sent.attempt) == ("running", 2)
    tasks.remote_done("late", token=late)
    assert (fresh(sent).status, sent.result) == ("running", None)
    tasks.remote_done("in time", token=token_of(sent))
    assert (fresh(sent).status, sent.result) == ("complete", "in time")


@pytest.mark.parametrize("times", [2, 3])
def test_a_report_that_is_delivered_again_changes_nothing(sent, times):
    token = token_of(sent)
    for number in range(times):
        tasks.remote_done(number, token=token)
    tasks.remote_failed("x", token=token)
    assert (fresh(sent).status, sent.result) == ("complete", 0)


@pytest.mark.parametrize("result", ["x" * 300_000, {1}, float("nan")])
def test_a_result_that_cannot_be_kept_does_not_repeat_the_call(sent, result):
    tasks.remote_done(result, token=token_of(sent))
    assert (fresh(sent).status, sent.result, sent.retries) == ("complete", None, 0)
    [attempt] = sent.attempts
    assert attempt.outcome == "succeeded"
    assert "The result" in attempt.error


def _forged(node):
    genuine = token_of(node)
    body, _, mac = genuine.rpartition(":")
    return {
        "empty": "",
        "cut": genuine[:-2],
        "other mac": body + ":" + mac[::-1],
        "other claim": tokens.sign(tokens.Ticket("default", node.pk, 1, uuid4())),
        "other attempt": tokens.sign(tokens.Ticket("default", node.pk, 2, node.claim_id)),
        "other node": tokens.sign(tokens.Ticket("default", uuid4(), 1, node.claim_id)),
        "other database": tokens.sign(tokens.Ticket("nowhere", node.pk, 1, node.claim_id)),
        "number": 7,
        "none": None,
        "list": [genuine],
    }


@pytest.mark.parametrize("kind", list(_forged(Node(attempt=1, claim_id=uuid4()))))
def test_a_forged_report_changes_nothing(sent, kind):
    token = _forged(sent)[kind]
    tasks.remote_done("forged", token=token)
    tasks.remote_failed("forged", token=token)
    assert (fresh(sent).status, sent.attempt, sent.retries, sent.result) == ("running", 1, 0, None)


@pytest.mark.parametrize("task", ["other.add", "tests.workflows.done", ""])
def test_a_forged_message_claims_no_remote_node(sim, task):
    node = signal(OTHER, subject="camera")
    message = NodeMessage(node.pk, task, 1, "default", uuid4())
    assert claim(message, worker="w", policy=policy_by_name(task)) is None
    assert fresh(node).status == "queued"


def test_the_dispatch_task_claims_no_ordinary_node(sim):
    node = signal(workflows.done.s(), subject="camera")
    message = NodeMessage(node.pk, DISPATCH, 1, "default", uuid4())
    assert claim(message, worker="w", policy=policy_by_name(DISPATCH)) is None


def test_the_dispatch_task_called_by_somebody_does_nothing(db):
    assert tasks.dispatch(1, y=2) is None


def test_any_name_is_good_for_an_argument_of_the_other_side(sim, handed_over):
    names = {"self": 1, "task": 2, "args": 3, "kwargs": 4, "producer": 5, "link": 6}
    signal(signature("other.add", kwargs=names, queue="other"), subject="camera")
    sim.run()
    assert handed_over[0][1]["kwargs"] == names


def test_a_worker_without_our_tasks_gives_the_node_its_grace(sim):
    node = signal(OTHER, subject="camera")
    worker_events.unknown_task(NodeMessage(node.pk, DISPATCH, 1, "default", uuid4()))
    assert fresh(node).times_out_at is not None


def test_a_broker_that_is_away_costs_no_attempt(sim, monkeypatch):
    def refuse(task, **message):
        raise OperationalError("away")

    monkeypatch.setattr(sim, "hand_over", refuse)
    node = signal(OTHER, subject="camera")
    for _ in range(20):
        sim.step()
    assert (fresh(node).retries, node.lost_attempts) == (0, 0)
    assert {a.outcome for a in node.attempts[:-1]} == {"given_back"}
    monkeypatch.undo()
    sim.run()
    assert (fresh(node).status, node.lease_expires_at) == ("running", None)


def test_a_call_that_cannot_be_sent_fails_like_a_handler(sim, monkeypatch):
    def refuse(task, **message):
        raise KeyError("no such queue")

    monkeypatch.setattr(sim, "hand_over", refuse)
    node = signal(OTHER, subject="camera")
    sim.run()
    assert (fresh(node).status, node.retries) == ("retrying", 1)


@pytest.mark.parametrize("point", ["before_handler", "in_handler", "after_handler"])
def test_a_worker_that_dies_on_the_way_is_replaced(sim, handed_over, point):
    node = signal(OTHER, subject="camera")
    sim.kill_next(point)
    sim.advance(minutes=1)
    assert (fresh(node).status, node.attempt) == ("running", 2)
    assert (node.retries, node.lease_expires_at) == (0, None)


def test_the_answer_may_come_before_the_dispatch_is_recorded(sim, monkeypatch):
    def answer(task, **message):
        tasks.remote_done("quick", token=message["link"].kwargs["token"])

    monkeypatch.setattr(sim, "hand_over", answer)
    node = signal(OTHER, subject="camera")
    sim.run()
    assert (fresh(node).status, node.result) == ("complete", "quick")


def test_a_timer_is_not_handed_over_early(sim, handed_over):
    node = signal(OTHER, subject="camera", delay=30)
    sim.advance(seconds=29)
    assert (fresh(node).status, handed_over) == ("queued", [])
    sim.advance(seconds=2)
    assert (fresh(node).status, len(handed_over)) == ("running", 1)


def test_a_message_that_is_lost_is_sent_again(sim, handed_over):
    node = signal(OTHER, subject="camera")
    sim.lose_messages()
    sim.advance(minutes=1)
    assert (fresh(node).status, len(handed_over)) == ("running", 1)


def test_a_paused_workflow_hands_nothing_over(sim, handed_over):
    node = signal(OTHER, subject="camera")
    workflow = node.workflow
    workflow.paused_at = sim.now
    workflow.save()
    sim.run()
    assert (fresh(node).status, handed_over) == ("paused", [])
    workflow.paused_at = None
    workflow.save()
    sim.advance(seconds=10)
    assert (fresh(node).status, len(handed_over)) == ("running", 1)


def test_remote_children_in_every_mode(sim, script, send, statuses):
    def work(_):
        current_node().spawn(OTHER, mode="non_blocking")
        current_node().spawn(OTHER, mode="fire_and_forget")
        current_node().spawn(workflows.done.s(), barrier=True)

    script(work)
    node = send(workflows.scripted)
    assert statuses(node) == ["running", "running", "ready"]
    node.children.get(seq=0).complete()
    sim.run()
    assert (fresh(node).status, statuses(node)) == (
        "complete",
        ["complete", "running", "complete"],
    )


def test_an_operator_may_report_for_the_other_side(sim, sent):
    with pytest.raises(InvalidTransition):
        sent.complete(attempt=7)
    sent.complete("by hand", by="ada")
    assert (fresh(sent).status, sent.result) == ("complete", "by hand")


def test_the_message_to_the_other_side(sim, handed_over, settings):
    settings.BACKBEAT = {"REDACT": ["card"]}
    call = signature("other.pay", kwargs={"card": "4711"}, queue="other", priority=3, time_limit=9)
    signal(call, subject="camera")
    sim.run()
    ((_, message),) = handed_over
    assert (message["priority"], message["time_limit"], message["ignore_result"]) == (3, 9, True)
    assert "4711" not in message["kwargsrepr"]
    assert (
        "backbeat" not in message["headers"]
    )  # another site with this package must not think it its own
    done, failed = message["link"], message["link_error"]
    assert (done.task, failed.task) == (remote.REMOTE_DONE, remote.REMOTE_FAILED)
    queue = current_app.conf.task_default_queue
    for callback in (done, failed):
        assert (callback.options["queue"], callback.options["declare"]) == (queue, [])
        assert callback.kwargs["token"] not in str(callback.options)


def test_the_answers_go_where_the_project_routes_them(sim, handed_over, monkeypatch):
    monkeypatch.setattr(
        remote, "_our_queue", lambda task: {remote.REMOTE_DONE: "answers"}.get(task, "failures")
    )
    signal(OTHER, subject="camera")
    sim.run()
    ((_, message),) = handed_over
    assert message["link"].options["queue"] == "answers"


def test_another_site_with_this_package_sends_failures_to_us(sim, handed_over, monkeypatch):
    """It knows our task's name, and must not run it itself."""
    signal(OTHER, subject="camera")
    sim.run()
    errback = handed_over[0][1]["link_error"]
    failed = Context(id="call", errbacks=[errback], delivery_info={})
    sent = []
    monkeypatch.setattr(
        current_app.amqp, "send_task_message", lambda _, name, *rest, **more: sent.append(name)
    )
    # Celery would call an errback that takes more than one argument, rather than send it.
    current_app.backend._call_task_errbacks(failed, ValueError("no such lens"), None)
    assert sent == [remote.REMOTE_FAILED]
