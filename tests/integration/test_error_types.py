"""Each failed attempt keeps the exception's class and arguments, whoever ends it and how."""

from __future__ import annotations

import pytest
from celery.exceptions import (
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerLostError,
)
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backbeat_celery import current_node, signal
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.exceptions import NodeFailed
from backbeat_celery.models import Attempt, Node
from backbeat_celery.models.stored_errors import exception_of, failure_of
from tests import workflows


class Declined(Exception):
    """With a constructor that pickle, and so Celery, cannot carry."""

    def __init__(self, code, text):
        self.code = code
        super().__init__(code, text, {"at": [1, 2]})


def decline(task, *args):
    raise Declined(402, "no money")


def last_of(node):
    return Attempt.objects.filter(node_id=node.pk).order_by("number").last()


def signature_of(exc):
    return type(exc), exc.args


THE_SAME = (Declined, (402, "no money", {"at": [1, 2]}))


@pytest.mark.parametrize(
    "task",
    [
        *(workflows.scripted, workflows.scripted_atomic, workflows.scripted_plain),
        *(workflows.scripted_with_limits, workflows.scripted_awaiting),
    ],
)
def test_what_a_handler_raises_is_kept(sim, script, send, task):
    script(decline)
    attempt = last_of(send(task.s()))
    assert attempt.error_type == f"{__name__}.Declined"
    assert attempt.error_args == [402, "no money", {"at": [1, 2]}]
    assert signature_of(exception_of(attempt)) == THE_SAME


def test_each_attempt_keeps_its_own(sim, script, send):
    script(lambda task: [][current_node().attempt])
    node = send(workflows.scripted.s())
    script(decline)
    sim.advance(hours=1)
    node.refresh_from_db()
    kinds = [attempt.error_type.rpartition(".")[2] for attempt in node.attempts]
    assert kinds == ["IndexError", "Declined", "Declined"]
    assert signature_of(failure_of(node)[0]) == THE_SAME


def test_a_success_keeps_none(sim, send):
    attempt = last_of(send(workflows.done.s(5)))
    assert (attempt.error_type, attempt.error_args) == ("", None)


def test_a_note_of_a_success_is_no_exception(sim, send):
    attempt = last_of(send(workflows.returning.s("set")))
    assert attempt.error
    assert (attempt.error_type, attempt.error_args) == ("", None)


def test_in_a_bundle_each_has_its_own(sim, script, send):
    def work(task, number):
        if number:
            raise Declined(number, "no money")

    script(work, "bundled")
    children = [workflows.bundled.s(n) for n in range(4)]
    script(lambda task: current_node().spawn_many(children, mode="non_blocking") and None)
    node = send(workflows.scripted.s())
    attempts = [last_of(child) for child in node.children.order_by("seq")]
    assert [a.error_args and a.error_args[0] for a in attempts] == [None, 1, 2, 3]
    assert {a.error_type for a in attempts[1:]} == {f"{__name__}.Declined"}


def test_the_error_that_a_retry_is_asked_for_with_is_kept(sim, script, send):
    def work(task):
        try:
            decline(task)
        except Declined as exc:
            raise task.retry(exc=exc, countdown=5) from exc

    script(work)
    attempt = last_of(send(workflows.scripted.s()))
    assert attempt.outcome == "failed"
    assert signature_of(exception_of(attempt)) == THE_SAME
    assert "Declined(402" in attempt.error
    assert "in decline" in attempt.traceback


def test_a_retry_without_an_error_has_a_class_and_a_text(sim, script, send):
    def work(task):
        raise task.retry(countdown=5)

    script(work)
    attempt = last_of(send(workflows.scripted.s()))
    assert (attempt.error_type, attempt.error_args) == ("celery.exceptions.Retry", None)
    assert "Retry" in str(exception_of(attempt))


def test_retries_that_are_exhausted_keep_celerys_error(sim, script, send):
    script(lambda task: task.retry(max_retries=0))
    node = send(workflows.scripted.s())
    exc, trace = failure_of(node)
    assert type(exc) is MaxRetriesExceededError
    assert exc.args == ("Can't retry tests.workflows.scripted any more.",)
    assert "MaxRetriesExceededError" in trace


def test_autoretry_keeps_the_error_of_each_attempt(sim, send):
    node = send(workflows.plain_autoretry.s(5))
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert node.status == "failed"
    assert [a.error_type for a in node.attempts] == ["builtins.KeyError"] * 2
    assert signature_of(failure_of(node)[0]) == (KeyError, ("again",))


def test_a_soft_time_limit_is_kept(sim, script, send):
    def work(task):
        raise SoftTimeLimitExceeded

    script(work)
    attempt = last_of(send(workflows.scripted.s()))
    assert type(exception_of(attempt)) is SoftTimeLimitExceeded


def test_a_base_exception_is_kept_as_it_was(sim, send):
    node = send(workflows.exiting.s())
    assert signature_of(exception_of(last_of(node))) == (SystemExit, (3,))


def test_a_rejection_is_kept(sim, send):
    exc, _ = failure_of(send(workflows.rejecting.s(False)))
    assert signature_of(exc) == (Reject, ("not me", False))


@pytest.fixture
def hung(sim, send):
    """A node that hangs in its handler."""
    sim.kill_next("in_handler")
    return send(workflows.slow.s())


def message(node):
    return NodeMessage(node.pk, node.task, node.attempt, "default", node.claim_id)


def test_a_hard_time_limit_is_celerys_with_its_seconds(hung):
    worker_events.hard_time_limit(message(hung), limit=30)
    assert signature_of(exception_of(last_of(hung))) == (TimeLimitExceeded, (30,))


def test_a_timeout_is_celerys_time_limit_with_its_seconds(sim, hung):
    for _ in range(5):
        worker_events.renew([message(hung)])
        sim.advance(seconds=14)
    attempt = Attempt.objects.get(number=1)
    assert attempt.outcome == "timed_out"
    assert signature_of(exception_of(attempt)) == (TimeLimitExceeded, (60,))


def test_attempts_that_are_lost_end_with_celerys_error(sim, script, send):
    script(lambda task: sim.kill_next("in_handler"))
    sim.kill_next("in_handler")
    node = send(workflows.scripted.s())
    sim.advance(hours=1)
    node.refresh_from_db()
    assert (node.status, node.lost_attempts) == ("failed", 3)
    assert signature_of(failure_of(node)[0]) == (WorkerLostError, (node.error,))


def test_an_attempt_that_is_given_back_too_often_ends_with_the_rejection(sim, send):
    node = send(workflows.rejecting.s(True))
    sim.advance(hours=1)
    node.refresh_from_db()
    assert node.status == "failed"
    assert signature_of(failure_of(node)[0]) == (Reject, ("not me", True))


def test_a_transaction_that_was_rolled_back_keeps_the_databases_error(sim, script, send):
    def work(task):
        raise OperationalError(1213, "Deadlock found") from Conflict("40P01")

    class Conflict(Exception):
        sqlstate = pgcode = "40P01"

    script(work)
    attempt = last_of(send(workflows.scripted_atomic.s()))
    assert signature_of(exception_of(attempt)) == (OperationalError, (1213, "Deadlock found"))


def test_a_task_that_nobody_knows_is_celerys_error(sim, send):
    node = signal(workflows.done.s(), subject="camera")
    sim.lose_messages()
    worker_events.unknown_task(message(node))
    Node.objects.filter(pk=node.pk).update(times_out_at=sim.now)
    sim.sweep()
    node.refresh_from_db()
    assert node.status == "failed"
    exc, trace = failure_of(node)
    assert signature_of(exc) == (NotRegistered, ("tests.workflows.done",))
    assert trace == ""


def test_a_task_that_is_gone_after_a_loss_is_told_and_not_the_loss(sim, send, hung):
    worker_events.worker_lost(message(hung))
    sim.lose_messages()
    hung.refresh_from_db()
    worker_events.unknown_task(message(hung))
    Node.objects.filter(pk=hung.pk).update(times_out_at=sim.now)
    sim.sweep()
    hung.refresh_from_db()
    assert hung.status == "failed"
    assert type(failure_of(hung)[0]) is NotRegistered


@pytest.fixture
def awaiting(sim, script, send):
    script(lambda _: None)
    return send(workflows.scripted_awaiting.s())


def test_an_exception_that_is_reported_is_kept(sim, awaiting):
    awaiting.fail(ValueError("declined", 5))
    awaiting.refresh_from_db()
    assert awaiting.status == "failed"
    exc, trace = failure_of(awaiting)
    assert signature_of(exc) == (ValueError, ("declined", 5))
    assert "ValueError" in trace


def test_a_text_that_is_reported_is_our_error(sim, awaiting):
    awaiting.fail("declined")
    attempt = last_of(awaiting)
    assert (attempt.error_type, attempt.error_args) == ("", None)
    assert signature_of(exception_of(attempt)) == (NodeFailed, ("declined",))


def test_a_report_that_waits_for_the_handler_keeps_it(sim, script, send):
    def work(task):
        Node.objects.get(pk=current_node().id).fail(Declined(402, "no money"))

    script(work)
    attempt = last_of(send(workflows.scripted_awaiting.s()))
    assert signature_of(exception_of(attempt)) == THE_SAME


def test_a_report_with_arguments_as_large_as_may_be_waits_too(sim, script, send):
    def work(task):
        Node.objects.get(pk=current_node().id).fail(ValueError("é" * 2_700))

    script(work)
    attempt = last_of(send(workflows.scripted_awaiting.s()))
    assert exception_of(attempt).args == ("é" * 2_700,)


def test_the_failure_is_read_by_one_query(sim, send):
    node = send(workflows.fatal.s())
    with CaptureQueriesContext(
        connection,
    ) as queries:
        exc, trace = failure_of(node)
    assert len(queries) == 1
    assert signature_of(exc) == (ValueError, ("no use to try again",))
    assert trace == last_of(node).traceback


def test_a_node_that_was_retried_since_still_has_its_last_failure(sim, send, monkeypatch):
    node = send(workflows.fatal.s())
    monkeypatch.setattr(workflows.fatal._get_current_object(), "run", lambda: "now it works")
    node.retry()
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.result) == ("complete", "now it works")
    assert signature_of(failure_of(node)[0]) == (ValueError, ("no use to try again",))


SECRET = "canary-4711"


@pytest.fixture
def revealed(sim, send, settings):
    settings.BACKBEAT = {"REDACT": ["card"]}
    return send(workflows.revealing.s(SECRET))


def test_the_row_keeps_what_the_error_beside_it_keeps(revealed):
    attempt = last_of(revealed)
    assert SECRET in attempt.error
    assert attempt.error_args == [f"no {SECRET} here"]


@pytest.mark.parametrize("permissions", [["view_node"], ["view_node", "view_payload_node"]])
def test_no_page_of_the_admin_shows_the_arguments(revealed, client, permissions):
    Attempt.objects.update(error="hidden", traceback="hidden", error_args=["arg-0815"])
    user = User.objects.create_user("ada", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    page = client.get(reverse("admin:backbeat_celery_node_change", args=[revealed.pk]))
    assert page.status_code == 200
    assert b"arg-0815" not in page.content
    assert SECRET.encode() not in page.content


def test_arguments_that_this_process_cannot_read_do_not_break_the_page(revealed, admin_client):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE backbeat_celery_attempt SET error_args = %s",
            ['[{"__type__": "elsewhere", "__value__": 1}]'],
        )
    url = reverse("admin:backbeat_celery_node_change", args=[revealed.pk])
    assert admin_client.get(url).status_code == 200
