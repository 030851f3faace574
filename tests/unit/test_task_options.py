"""Wrong options of a task and handlers that never run are told where they are written."""

from __future__ import annotations

import inspect
from datetime import timedelta
from functools import partial, wraps
from uuid import uuid4
from weakref import WeakKeyDictionary

import pytest
from celery import Task, current_app, shared_task

from backbeat_celery import NodeTask, checks, node_task, signal
from backbeat_celery.exceptions import BadInput
from backbeat_celery.inputs.policy import policy_of
from backbeat_celery.inputs.task_options import RULES, handler_problems, misspelt
from backbeat_celery.models import Node
from backbeat_celery.worker.task import make_node_capable
from tests.workflows import done

WRONG = [
    ({"max_retries": "1"}, "a whole number from 0 on"),
    ({"max_retries": True}, "a whole number"),
    ({"max_retries": -1}, "a whole number"),
    ({"max_retries": 1.5}, "a whole number"),
    ({"timeout": "60"}, "a number of seconds or a timedelta"),
    ({"queue": 5}, "a name of at most 255 bytes"),
    ({"routing_key": "é" * 128}, "a name of at most 255 bytes"),
    ({"compression": "zap"}, "one that kombu knows"),
    ({"timeout": 0}, "more than 0"),
    ({"timeout": float("nan")}, "a number of seconds"),
    ({"timeout": timedelta(days=-1)}, "more than 0"),
    ({"default_retry_delay": 10**12}, "100 years"),
    ({"default_retry_delay": None}, "a number of seconds"),
    ({"retry_backoff": "yes"}, "True, False, or a number"),
    ({"retry_backoff_max": float("inf")}, "100 years"),
    ({"retry_jitter": "no"}, "True or False"),
    ({"retry_kwargs": {"max_retries": "3"}}, "a dictionary"),
    ({"retry_kwargs": [3]}, "a dictionary"),
    ({"dont_autoretry_for": ValueError}, "a tuple of exception classes"),
    ({"dont_autoretry_for": ("ValueError",)}, "a tuple of exception classes"),
    ({"throws": [ValueError]}, "a tuple of exception classes"),  # which Celery trips over
    ({"mode": "nonblocking"}, "blocking, non_blocking, fire_and_forget"),
    ({"atomic": "no"}, "True or False"),
    ({"awaits_completion": 1}, "True or False"),
    ({"bundle": True}, "1 to 1000"),
    ({"bundle": 1001}, "1 to 1000"),
    ({"rescue": 7}, "a task or the name of one"),
    ({"rescue": print}, "a task or the name of one"),
    ({"time_limit": "9"}, "a number of seconds"),
    ({"soft_time_limit": -9}, "more than 0"),
    ({"rate_limit": "often"}, "10/m"),
    ({"priority": "high"}, "0 to 255"),
    ({"max_retrys": 3}, "did you mean max_retries?"),
    ({"time_out": 3}, "did you mean timeout?"),
]


def handler():
    """Never called."""


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_a_wrong_option_is_refused_where_it_is_written(options, words):
    [(name, value)] = options.items()
    with pytest.raises(BadInput) as caught:
        node_task(name="tests.options.refused", **options)
    assert name in str(caught.value)
    assert words in str(caught.value)
    assert "tests.options.refused" in str(caught.value)
    if name in RULES:
        assert repr(value)[:100] in str(caught.value)
    assert "tests.options.refused" not in current_app.tasks


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_a_wrong_option_is_refused_in_a_class_statement(options, words):
    with pytest.raises(BadInput) as caught:
        type("Refused", (NodeTask,), dict(options))
    assert words in str(caught.value)


@pytest.fixture
def made():
    """Register a task in the spelling that is checked only when the task is used."""
    names = []

    def make(run=handler, **options):
        # Celery itself turns away some values: only those get here that it lets pass.
        names.append(f"tests.options.{uuid4()}")
        shared_task(name=names[-1], **options)(run)
        make_node_capable(current_app)
        return current_app.tasks[names[-1]]

    yield make
    for name in names:
        current_app.tasks.pop(name)


def told_of(task):
    """What `check` says of one task."""
    return [one for one in checks.check_tasks() if task.name in one.msg]


BROKERS = ("priority", "queue", "routing_key")
"""Options of which Celery 5.7 warns where they are written on a task."""

PASSED_BY_CELERY = [
    one
    for one in WRONG
    if not {"retry_backoff", "retry_backoff_max", "dont_autoretry_for", *BROKERS} & one[0].keys()
]


@pytest.mark.parametrize(("options", "words"), PASSED_BY_CELERY)
def test_signal_and_check_refuse_a_wrong_option_of_another_spelling(sim, made, options, words):
    task = made(base=NodeTask, **options)
    with pytest.raises(BadInput) as caught:
        signal(task, subject="camera")
    assert words in str(caught.value)
    assert not Node.objects.exists()
    [told] = told_of(task)
    assert (told.id, words in told.msg) == ("backbeat_celery.E012", True)


def test_what_is_wrong_with_a_task_of_others_is_a_warning(sim, made):
    task = made(max_retries="1", max_retrys=3)  # the latter may be the author's own
    with pytest.raises(BadInput, match="max_retries is '1'"):
        signal(task, subject="camera")
    [told] = told_of(task)
    assert (told.id, told.level) == ("backbeat_celery.W012", 30)


def test_a_rescue_that_nobody_knows_is_told_by_check(made):
    task = made(base=NodeTask, rescue="tests.workflows.dome")
    [told] = told_of(task)
    assert told.msg == (
        f"{task.name}: rescue is 'tests.workflows.dome', but no task of that name is registered. "
        "Did you mean 'tests.workflows.done'?"
    )


def test_the_tasks_of_the_tests_are_sound():
    known_to_be_wrong = {
        f"tests.workflows.{name}" for name in ("badly_bundled", "rescued_by_nobody")
    }
    told = [one for one in checks.check_tasks() if one.msg.split(":")[0] not in known_to_be_wrong]
    assert told == []


def test_a_task_module_that_cannot_be_imported_is_told_in_a_sentence(monkeypatch):
    def broken():
        raise ImportError("no module named shop")

    monkeypatch.setattr("backbeat_celery.inputs.task_registry._loaded", WeakKeyDictionary())
    monkeypatch.setattr(current_app.loader, "import_default_modules", broken)
    [told] = checks.check_tasks()
    assert told.id == "backbeat_celery.E011"
    assert "no module named shop" in told.msg


@pytest.mark.parametrize("spelling", ["decorator", "class", "shared_task"])
def test_a_timedelta_is_a_duration(made, spelling):
    options = {
        "timeout": timedelta(minutes=2),
        "default_retry_delay": timedelta(seconds=7),
        "time_limit": timedelta(seconds=90),
        "retry_jitter": False,
    }
    if spelling == "shared_task":
        task = made(base=NodeTask, **options)
    elif spelling == "class":
        task = type("Patient", (NodeTask,), {**options, "name": "tests.options.patient"})()
    else:
        options |= {"retry_backoff_max": timedelta(seconds=9)}
        node_task(name="tests.options.timed", **options)(handler)
        task = current_app.tasks["tests.options.timed"]
    told = policy_of(task)
    assert (told.timeout, told.delay(1), task.time_limit) == (120, 7, 90)
    if spelling == "decorator":
        assert told.delay(2) == 9
        current_app.tasks.pop("tests.options.timed")


def test_other_attributes_are_the_authors_own():
    assert misspelt("task", ["tenant", "model", "nodes", "retries", "queues"]) == []


async def coroutine():
    """Never called."""


async def async_generator():
    yield 1


def generator():
    yield 1


class Callable:
    def method(self):
        yield 1


UNRUN = [coroutine, async_generator, generator, partial(generator), partial(partial(coroutine))]


@pytest.mark.parametrize("run", UNRUN)
def test_a_handler_that_never_runs_is_refused_at_once(run):
    with pytest.raises(BadInput, match="never runs"):
        node_task(name="tests.options.unrun")(run)
    with pytest.raises(BadInput, match="never runs"):
        node_task(run)


@pytest.mark.parametrize("run", [coroutine, async_generator, generator])
def test_a_class_statement_refuses_a_run_that_never_runs(run):
    with pytest.raises(BadInput, match=r"Refused: .* never runs"):
        type("Refused", (NodeTask,), {"run": run})


@pytest.mark.parametrize("base", [None, NodeTask])
@pytest.mark.parametrize("run", [coroutine, async_generator, generator])
@pytest.mark.parametrize("options", [{}, {"autoretry_for": (OSError,)}])
def test_signal_and_check_refuse_a_handler_that_never_runs(sim, made, base, run, options):
    task = made(run, base=base, **options)
    with pytest.raises(BadInput, match="never runs"):
        signal(task, subject="camera")
    assert not Node.objects.exists()
    assert ["never runs" in one.msg for one in told_of(task)] == [True]


def test_a_method_that_is_a_generator_never_runs():
    assert handler_problems("x", Callable().method)
    task = type("Made", (Task,), {"run": Callable.method, "name": "tests.options.made"})()
    assert handler_problems("x", task.run)


def hidden(run):
    @wraps(run)
    def call(*args):
        return run(*args)

    return call


@pytest.mark.parametrize("run", [coroutine, async_generator, generator])
@pytest.mark.parametrize("base", [None, NodeTask])
def test_what_a_decorator_hides_fails_for_good_when_it_runs(sim, made, run, base):
    node = signal(made(hidden(run), base=base), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.attempt) == ("failed", 1)
    assert "never runs" in node.error


def test_a_decorator_that_runs_a_coroutine_is_fine(made):
    import asyncio

    @wraps(coroutine)
    def call():
        return asyncio.run(coroutine())

    assert inspect.iscoroutinefunction(call.__wrapped__)
    assert handler_problems("x", made(call, base=NodeTask).run) == []


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": "60"},  # was queued for ever
        {"max_retries": "1"},  # was lost until no more attempts were left
        {"default_retry_delay": "soon"},
        {"atomic": "no"},
    ],
)
def test_options_that_went_wrong_after_the_signal_fail_the_node_by_name(
    sim, made, monkeypatch, options
):
    task = made(base=NodeTask)
    node = signal(task, subject="camera")
    [(name, value)] = options.items()
    monkeypatch.setattr(task.__class__, name, value, raising=False)
    monkeypatch.setattr("backbeat_celery.inputs.task_options._sound", set())
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, node.attempt, node.lost_attempts) == ("failed", 1, 0)
    assert f"{name} is {value!r}" in node.error
    assert node.publish_count <= 1


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", ["scripted", "scripted_atomic", "bundled"])
def test_a_fault_of_ours_in_the_record_is_a_failure_that_says_so(sim, monkeypatch, fails, kind):
    from backbeat_celery.engine import attempt_results
    from backbeat_celery.inputs.policy import Policy
    from tests import workflows

    def work(task, *args):
        if fails:
            raise RuntimeError("the handler's own")
        return {1}  # with a note, which is written statement by statement on every database

    monkeypatch.setitem(workflows.scripts, "bundled" if kind == "bundled" else "main", work)

    def broken(*args, **kwargs):
        raise LookupError("a fault of ours")

    monkeypatch.setattr(Policy, "delay", broken)
    monkeypatch.setattr(attempt_results, "_write_success", broken)
    nodes = [signal(getattr(workflows, kind), subject=f"camera {i}") for i in range(2)]
    sim.run()
    for node in nodes:
        node.refresh_from_db()
        assert (node.status, node.attempt, node.lost_attempts) == ("failed", 1, 0)
        assert "a fault of ours" in node.error
        [attempt] = node.attempts
        assert "in broken" in attempt.traceback


def test_what_is_sound_is_not_looked_at_twice(sim, monkeypatch):
    signal(done, subject="camera")
    monkeypatch.setattr("backbeat_celery.inputs.task_options.task_problems", None)
    signal(done, subject="camera")
