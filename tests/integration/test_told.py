"""What Celery's receivers, monitors and Sentry are told of a node's call."""

from __future__ import annotations

import sys
from traceback import walk_tb
from types import SimpleNamespace

import pytest
from celery import Task, current_app, shared_task, signals
from celery.worker.request import Request

from backbeat_celery import current_node, signal
from backbeat_celery.engine.after_commit import Publication
from backbeat_celery.exceptions import BadInput
from backbeat_celery.models import Node
from backbeat_celery.worker import run, signal_handlers
from tests import workflows


@pytest.fixture
def told():
    """What receivers of task_prerun and task_postrun hear, the very first included."""
    heard = []

    def before(task=None, args=None, kwargs=None, **_):
        heard.append(("before", list(args), dict(kwargs)))

    def after(task=None, args=None, kwargs=None, **_):
        heard.append(("after", list(args), dict(kwargs)))

    signals.task_prerun.connect(before)
    signals.task_prerun.receivers.insert(1, signals.task_prerun.receivers.pop())
    signals.task_postrun.connect(after)
    yield heard
    signals.task_prerun.disconnect(before)
    signals.task_postrun.disconnect(after)


def test_receivers_are_told_the_arguments(sim, told):
    signal(workflows.done.s(7, x={"deep": 1}), subject="camera")
    sim.run()
    expected = [7], {"x": {"deep": 1}}
    assert told == [("before", *expected), ("after", *expected)]


def test_they_are_told_nothing_that_is_to_be_hidden(sim, told, settings, script):
    settings.BACKBEAT = {"REDACT": ["card", "name"]}
    seen = []
    script(lambda task: seen.append(task.request.args), name="4711")
    signal(workflows.scripted.s("4711"), subject="camera")
    signal(workflows.done.s(card="4711"), subject="lens")
    sim.run()
    assert "4711" not in repr(told)
    assert {"card": "***"} in [kwargs for _, _, kwargs in told]
    assert seen == [["4711"]]
    assert sorted(map(repr, (call.kwargs for call in sim.calls))) == ["{'card': '4711'}", "{}"]


class Refuses(Task):
    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self.told = repr((args, kwargs))


@shared_task(name="tests.refuses", base=Refuses, autoretry_for=[ValueError], default_retry_delay=0)
def refuses(card, *, secret):
    raise ValueError("no")


@pytest.mark.parametrize("max_retries", [0, 1])
def test_of_a_failure_too(sim, settings, max_retries):
    settings.BACKBEAT = {"REDACT": ["card"]}
    heard = []

    def hear(request=None, args=None, kwargs=None, **_):
        args, kwargs = (args, kwargs) if request is None else (request.args, request.kwargs)
        heard.append([list(args), dict(kwargs)])

    call = refuses.s("4711", secret={"card": "4711"})
    try:
        for told in signals.task_failure, signals.task_retry:
            told.connect(hear, weak=False)
        signal(call, subject="camera", max_retries=max_retries)
        sim.run()
    finally:
        for told in signals.task_failure, signals.task_retry:
            told.disconnect(hear)
    assert heard == [[["***"], {"secret": {"card": "***"}}]] * (max_retries + 1)
    assert refuses.told == "(['4711'], {'secret': {'card': '4711'}})"  # the task's own method


def test_of_a_bundle_they_are_told_each_node_in_turn(sim, told, script):
    script(lambda task, number: None, "bundled")
    signatures = [workflows.bundled.s(n) for n in range(3)]
    script(lambda task: current_node().spawn_many(signatures, mode="non_blocking") and None)
    signal(workflows.scripted.s(), subject="camera")
    sim.run()
    assert [args for _, args, _ in told][-2:] == [[0], [2]]


def test_a_message_that_claims_nothing_has_no_arguments(sim, told, script):
    seen = []
    script(seen.append)
    signal(workflows.scripted.s(), subject="camera")
    sim.duplicate_messages()
    sim.run()
    assert len(seen) == 1
    assert sorted(args for _, args, _ in told) == [[], [], [], []]
    assert Node.objects.get(parent__isnull=False).attempt == 1


def test_no_variable_of_ours_shows_reporters_what_is_hidden(sim, settings, script):
    settings.BACKBEAT = {"REDACT": ["name"]}
    shown = {}

    def reporter(exception=None, traceback=None, **_):
        # At once, as reporters do: Celery clears the frames.
        for frame, _ in walk_tb(exception.__traceback__):
            if frame.f_code.co_filename == run.__file__:
                shown[frame.f_code.co_name] = repr(frame.f_locals)

    def refuse(task):
        raise BadInput(f"no {task.request.args[0]}")

    script(refuse, name="4711")
    signals.task_failure.connect(reporter)
    signal(workflows.scripted.s("4711"), subject="camera")
    sim.run()
    signals.task_failure.disconnect(reporter)
    assert "execute" in shown
    assert not [name for name, variables in shown.items() if "4711" in variables]


class Sentry:
    """Stands for sentry_sdk with its Celery integration, which hands out a scope a call."""

    def __init__(self, integration=True):
        self.said = []
        client = SimpleNamespace(get_integration=lambda name: name if integration else None)
        self.get_client = lambda: client

    def set_tag(self, name, value):
        self.said.append((name, value))

    def set_context(self, name, value):
        self.said.append((name, value))


@pytest.mark.parametrize("integration", [True, False])
def test_sentry_is_told_which_node_it_is(sim, monkeypatch, integration):
    sentry = Sentry(integration)
    monkeypatch.setitem(sys.modules, "sentry_sdk", sentry)
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    about = {"node": str(node.pk), "workflow": str(node.workflow_id), "attempt": 1}
    said = [("backbeat.node", str(node.pk)), ("backbeat", about)]
    assert sentry.said == (said if integration else [])


def test_the_workers_lists_show_arguments_and_node(sim, settings):
    settings.BACKBEAT = {"REDACT": ["y"]}
    node = signal(workflows.plain.s(7, y=4711), subject="camera")
    node = Node.objects.with_time().get(pk=node.pk)
    publication = Publication.of(node, node.db_now)
    message = SimpleNamespace(
        headers={
            "id": "1",
            "task": workflows.plain.name,
            "argsrepr": publication.argsrepr,
            "kwargsrepr": publication.kwargsrepr,
            "backbeat": {"id": "1", "node": str(node.pk), "attempt": 1, "db": "default"},
        },
        content_type="application/x-backbeat",
        content_encoding="utf-8",
        body="",
        payload=[[], {}, {}],
        delivery_info={},
        properties={},
    )
    request = Request(message, app=current_app, hostname="here")
    signal_handlers.on_received(request)
    shown = request.info()
    assert shown["args"] == "(7,)"
    assert shown["kwargs"] == f"{{'y': '***'}}  # node {node.pk}"
