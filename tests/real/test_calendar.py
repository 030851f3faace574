"""A real `celery beat` with django-celery-beat's scheduler, and a real worker."""

from __future__ import annotations

import json
import os
import re
import signal as signals
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from backbeat_celery.models import Node, Workflow
from tests import pace, services
from tests.real import handlers
from tests.waiting import until

LONG_AGO = timezone.now() - timedelta(days=2000)


class Beat:
    """One `celery beat`, killed at the end."""

    def __init__(self, log):
        self.output = log
        command = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "beat", "-l", "INFO"]
        command += ["-S", "django_celery_beat.schedulers:DatabaseScheduler"]
        self.process = subprocess.Popen(
            [*command, "--max-interval", "1", "--pidfile", ""],
            env={**os.environ, services.DATABASE_NAME: str(connection.settings_dict["NAME"])},
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def text(self):
        return self.output.read_text(errors="replace")

    def kill(self):
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signals.SIGKILL)
        self.process.wait(timeout=pace.allowed(60))


@pytest.fixture
def start_beat(tmp_path):
    beats = []

    def start():
        beats.append(Beat(tmp_path / f"beat{len(beats)}.log"))
        return beats[-1]

    yield start
    for beat in beats:
        beat.kill()


def schedule(name, /, **kwargs):
    """A schedule that is due now, and then not for a long time."""
    rare, _ = IntervalSchedule.objects.get_or_create(every=1000, period="days")
    return PeriodicTask.objects.create(
        name=name,
        task="backbeat.signal",
        interval=rare,
        kwargs=json.dumps(kwargs),
        last_run_at=LONG_AGO,
    )


def sent(beat, name):
    return beat.text().count(f"Sending due task {name}")


def test_a_beat_that_fires_twice_starts_one_workflow(worker, start_beat, log, finished):
    """The first beat is killed before it has written down that it fired."""
    entry = schedule(
        "report",
        task=handlers.step.name,
        args=["report"],
        subject="report {now:%Y}",
        name="report",
    )
    done = re.compile(r"Task backbeat\.signal\[\S+\] succeeded")
    for count in (1, 2):
        PeriodicTask.objects.filter(pk=entry.pk).update(last_run_at=LONG_AGO)
        beat = start_beat()
        until(lambda beat=beat: sent(beat, "report"), 60, beat.text)
        until(lambda n=count: len(done.findall(worker.output.read_text())) == n, 60, worker.tail)
        beat.kill()
    node = finished(Node.objects.get(parent__isnull=False))
    assert node.key.startswith("report 86400000s#")
    assert (node.metadata["schedule"], node.workflow.name) == ("report", "report")
    assert node.workflow.subject == f"report {timezone.localtime():%Y}"
    assert log.labels() == ["report"]


def test_a_mistake_in_a_schedule_is_told_by_the_worker_and_harms_nothing_else(
    worker, start_beat, finished
):
    schedule("wrong", task="shop.tasks.nowhere", subject="x")
    schedule("right", task=handlers.step.name, args=["right"], subject="right")
    beat = start_beat()
    until(lambda: sent(beat, "wrong") and sent(beat, "right"), 60, beat.text)
    until(lambda: "The schedule 'wrong' has started nothing" in worker.output.read_text(), 60)
    until(lambda: Workflow.objects.filter(subject="right").exists(), 60, worker.tail)
    finished(Node.objects.get(parent__isnull=False))
    assert "UnknownTask" in worker.output.read_text()
    assert Workflow.objects.count() == 1
