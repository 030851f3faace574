"""`backbeat.signal`: a message from beat starts a workflow, once for each period."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest
from celery import chain, group
from django.db import OperationalError
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from backbeat_celery import tasks
from backbeat_celery.beat.start import FIRED_AT
from backbeat_celery.exceptions import BadInput, BadMode, UnknownTask
from backbeat_celery.models import Node, Workflow
from tests import workflows

DONE = workflows.done.name


@pytest.fixture(autouse=True)
def in_utc():
    with timezone.override(UTC):
        yield


@pytest.fixture
def nightly(db):
    """A periodic task at two o'clock in UTC, as the admin would make it."""
    crontab = CrontabSchedule.objects.create(minute="0", hour="2", timezone="UTC")
    return PeriodicTask.objects.create(
        name="nightly report",
        task="backbeat.signal",
        crontab=crontab,
        kwargs=json.dumps({"task": DONE, "subject": "report {date}"}),
    )


def fire(schedule, at="2026-11-24T02:00:01+00:00", by_beat=True, **kwargs):
    """Call the task with the headers that beat sends; give the result."""
    headers = {FIRED_AT: at}
    if schedule is not None:
        headers["periodic_task_name"] = schedule.name
        kwargs = {**json.loads(schedule.kwargs), **kwargs}
    if by_beat:
        headers["celery_beat_task"] = True
    return tasks.signal_on_schedule.apply(kwargs=kwargs, headers=headers)


def started():
    return list(Node.objects.filter(parent__isnull=False).order_by("created_at", "id"))


def test_a_firing_starts_a_workflow_for_the_date(sim, nightly):
    assert fire(nightly).successful()
    sim.run()
    [node] = started()
    assert (node.name, node.status, node.key) == (
        DONE,
        "complete",
        "nightly report 2026-11-24T02:00:00Z",
    )
    assert (node.workflow.name, node.workflow.subject) == (DONE, "report 2026-11-24")
    assert node.metadata == {
        "schedule": "nightly report",
        "scheduled_at": "2026-11-24T02:00:00+00:00",
    }


def test_a_beat_that_fires_twice_starts_one(sim, nightly):
    first = fire(nightly).get()
    assert fire(nightly, at="2026-11-24T02:00:04+00:00").get() == first
    assert fire(nightly, at="2026-11-24T09:30:00+00:00").get() == first  # another beat, late
    assert len(started()) == 1
    assert fire(nightly, at="2026-11-25T02:00:01+00:00").get() != first


def test_a_firing_may_close_the_workflow_and_a_second_one_starts_nothing(sim, nightly):
    first = fire(nightly, close=True).get()
    assert fire(nightly, at="2026-11-24T02:00:04+00:00", close=True).get() == first
    sim.run()
    assert started()[0].workflow.finished_at is not None
    assert fire(nightly, at="2026-11-24T09:30:00+00:00", close=True).get() == first
    assert Workflow.objects.count() == 1
    assert fire(nightly, at="2026-11-25T02:00:01+00:00", close=True).get() != first


def test_runs_of_one_subject_follow_each_other_where_each_firing_closes(sim, nightly):
    for day in ("24", "25"):
        fire(nightly, at=f"2026-11-{day}T02:00:01+00:00", subject="report", close=True)
        sim.run()
    runs = Workflow.objects.order_by("run").values_list("subject", "run")
    assert list(runs) == [("report", 1), ("report", 2)]


def test_a_late_beat_means_the_date_of_the_period(sim, nightly):
    nightly.crontab.hour, nightly.crontab.minute = "23", "59"
    nightly.crontab.save()
    fire(nightly, at="2026-11-25T00:00:03+00:00")
    assert started()[0].workflow.subject == "report 2026-11-24"


def test_dates_are_those_of_djangos_time_zone(sim, nightly):
    nightly.crontab.hour = "23"
    nightly.crontab.save()
    with timezone.override("Asia/Tokyo"):
        fire(nightly, at="2026-11-24T23:00:01+00:00")
    assert started()[0].workflow.subject == "report 2026-11-25"


def test_an_interval_starts_one_for_each_stretch_of_its_length(sim, nightly):
    nightly.crontab = None
    nightly.interval = IntervalSchedule.objects.create(every=10, period="minutes")
    nightly.save()
    for minute in ("00", "09", "10", "19"):
        fire(nightly, at=f"2026-11-24T02:{minute}:30+00:00")
    assert len(started()) == 2
    assert Workflow.objects.count() == 1


def test_by_hand_from_the_admin_it_starts_again(sim, nightly):
    """The admin's action sends the name as well, but is meant as it is clicked."""
    fire(nightly)
    fire(nightly, by_beat=False)
    assert len(started()) == 2


def test_without_a_schedule_each_message_starts_one_and_its_redelivery_none(sim):
    options = {"task": DONE, "subject": "report"}
    for task_id in ("a", "a", "b"):
        tasks.signal_on_schedule.apply(kwargs=options, task_id=task_id)
    assert [node.key for node in started()] == ["a", "b"]


def test_a_schedule_that_was_deleted_meanwhile_starts_all_the_same(sim, nightly):
    nightly.delete()
    assert fire(nightly).successful()
    assert len(started()) == 1


def test_a_key_of_your_own_is_a_template_too(sim, nightly):
    fire(nightly, subject="report", key="{week}")
    fire(nightly, subject="report", key="{week}", at="2026-11-25T02:00:01+00:00")
    assert [node.key for node in started()] == ["2026-W48"]


def test_a_firing_may_start_a_canvas(sim, nightly):
    canvas = chain(workflows.done.s(1), group(workflows.done.si(2), workflows.done.si(3)))
    given = {"subject": "report {date}", "name": "nightly", "canvas": canvas}
    nightly.kwargs = json.dumps(given)
    for _ in range(2):
        assert fire(nightly).successful()
    sim.run()
    [top] = Node.objects.filter(container="chain")
    assert (top.status, top.workflow.name, len(sim.calls)) == ("complete", "nightly", 3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"task": DONE}, "canvas or task, not both"),
        ({"name": None}, "needs a name"),
        ({"canvas": {"task": "celery.chain", "kwargs": {}}}, "has no tasks"),
        ({"canvas": "chain"}, "a dict as canvas"),
    ],
)
def test_a_canvas_that_cannot_be_used_is_told(sim, more, message):
    canvas = chain(workflows.done.s(1), workflows.done.si(2))
    given = {"subject": "x", "name": "nightly", "canvas": json.loads(json.dumps(canvas)), **more}
    result = fire(None, **given)
    assert message in str(result.result)
    assert not Node.objects.exists()


def test_everything_that_signal_takes_is_handed_on(sim, nightly):
    fire(
        nightly,
        args=[7],
        kwargs={"a": 1},
        name="reports",
        mode="fire_and_forget",
        delay=60,
        metadata={"why": "nightly"},
        queue="slow",
    )
    [node] = started()
    assert (node.args, node.kwargs, node.mode) == ([7], {"a": 1}, "fire_and_forget")
    assert (node.options, node.metadata["why"]) == ({"queue": "slow"}, "nightly")
    assert node.workflow.name == "reports"
    assert node.fires_at is not None


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"task": "shop.tasks.nowhere"}, UnknownTask, "shop.tasks.nowhere"),
        ({"subject": "report {dat}"}, BadInput, "has no {dat}"),
        ({"subject": ""}, BadInput, "1 to 255 characters"),
        ({"subject": None}, BadInput, "needs a subject"),
        ({"task": 7}, BadInput, "needs a task"),
        ({"key": "{x}"}, BadInput, "has no {x}"),
        ({"mode": "bloking"}, BadMode, "bloking"),
        ({"args": "abc"}, BadInput, "list as args"),
        ({"kwargs": [1]}, BadInput, "dict as kwargs"),
        ({"metadata": "x"}, BadInput, "dict as metadata"),
        ({"close": "yes"}, BadInput, "close is True or False"),
        ({"close": True, "subject": "a\x00b"}, BadInput, "1 to 255 characters"),
        ({"close": True, "name": "a\x00b"}, BadInput, "name has 1 to 255 characters"),
        ({"taks": DONE}, BadInput, "no argument taks"),
        ({"delay": "60"}, BadInput, "number of seconds"),
    ],
)
def test_bad_input_is_a_failure_that_names_the_schedule(
    sim, nightly, caplog, options, error, words
):
    with caplog.at_level(logging.ERROR):
        result = fire(nightly, **options)
    assert isinstance(result.result, error)
    [line] = [r.getMessage() for r in caplog.records if r.name == "backbeat_celery.tasks"]
    assert "'nightly report' has started nothing" in line
    assert words in line
    assert (started(), Workflow.objects.count()) == ([], 0)


def test_positional_arguments_are_told(sim, caplog):
    result = tasks.signal_on_schedule.apply(args=[DONE])
    assert "keyword arguments only" in str(result.result)


def test_a_message_says_when_it_was_first_sent(monkeypatch):
    sent = []
    monkeypatch.setattr(
        "celery.app.task.Task.apply_async", lambda self, *args, **options: sent.append(options)
    )
    headers = {"periodic_task_name": "nightly report"}
    tasks.signal_on_schedule.apply_async((), {}, headers=headers)
    assert headers == {"periodic_task_name": "nightly report"}  # beat keeps and reuses it
    [options] = sent
    assert datetime.fromisoformat(options["headers"][FIRED_AT]).tzinfo == UTC
    # A retry sends the headers that it came with.
    tasks.signal_on_schedule.apply_async((), {}, headers={FIRED_AT: "earlier"})
    assert sent[1]["headers"][FIRED_AT] == "earlier"


def test_without_its_database_a_start_is_retried_for_the_same_period(sim, nightly, monkeypatch):
    from celery.exceptions import Retry

    def gone(*args):
        raise OperationalError("gone")

    retried = []
    monkeypatch.setattr("backbeat_celery.tasks.start", gone)
    monkeypatch.setattr(
        tasks.FiredTask,
        "apply_async",
        lambda self, args, kwargs, **options: retried.append((kwargs, options)),
    )
    headers = {FIRED_AT: "2026-11-24T02:00:01+00:00", "celery_beat_task": True}
    request = {
        "id": "a",
        "headers": headers,
        "is_eager": False,
        "called_directly": False,
        "delivery_info": {},
        "args": [],
        "kwargs": {"task": DONE, "subject": "{date}"},
        "retries": 100,
    }
    task = tasks.signal_on_schedule
    task.push_request(**request)
    try:
        with pytest.raises(Retry):
            task.run(**request["kwargs"])
    finally:
        task.pop_request()
    [(kwargs, options)] = retried
    assert kwargs == request["kwargs"]
    assert options["headers"] == headers
    assert options["countdown"] <= 300


def test_without_django_celery_beat_there_is_no_schedule_to_read(sim, nightly, monkeypatch):
    monkeypatch.setattr("backbeat_celery.beat.start.apps.is_installed", lambda name: False)
    assert fire(nightly, at="2026-11-24T09:00:00+00:00").successful()
    [node] = started()
    assert node.metadata["scheduled_at"] == "2026-11-24T09:00:00+00:00"
