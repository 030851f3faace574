"""Any Celery task is a node, and behaves as its author wrote it."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest
from celery import Task, current_app, shared_task, signature
from celery.exceptions import Ignore

from backbeat_celery import NodeTask, current_node, node_task
from backbeat_celery.exceptions import NotInNode, UnsupportedOption
from backbeat_celery.models import Node
from backbeat_celery.worker.task import make_node_capable
from tests import pace, workflows

current_app.loader.import_default_modules()


@pytest.fixture
def register(monkeypatch):
    """Register a task for one test."""
    names: list[str] = []

    def add(base, **attributes):
        task = type("Made", (base,), {"name": f"tests.made.{uuid.uuid4()}", **attributes})()
        names.append(task.name)
        registered = current_app.register_task(task)
        make_node_capable(current_app)
        return registered

    yield add
    for name in names:
        current_app.tasks.pop(name)


@pytest.mark.parametrize(
    ("task", "result"),
    [
        (workflows.done.s(703), 703),  # @node_task
        (workflows.plain.s(1, y=2), 3),  # @shared_task of somebody else
        (workflows.plain.si(1), 2),  # immutable
        (workflows.plain_autoretry.s(0), 0),  # with autoretry_for
        (workflows.done, None),  # the task itself
        (signature("tests.workflows.plain", args=(4,)), 5),  # by name
        (signature("backbeat.sweep"), None),  # ours
    ],
)
def test_the_task_runs_as_a_node(send, task, result):
    node = send(task)
    assert (node.status, node.outcome, node.result) == ("complete", "succeeded", result)


def test_options_of_both_spellings_are_equal():
    @node_task(name="tests.spelling.a", max_retries=4)
    def one() -> None: ...

    @shared_task(name="tests.spelling.b", base=NodeTask, max_retries=4)
    def other() -> None: ...

    assert isinstance(one, NodeTask)
    assert isinstance(other, NodeTask)
    assert one.max_retries == other.max_retries == 4


def test_a_bound_task_retries_durably(sim, send):
    node = send(workflows.bound.s(5))
    sim.advance(seconds=20)
    node.refresh_from_db()
    assert (node.result, node.retries) == (2, 2)


def test_a_plain_task_that_retries_itself_does_so_durably(sim, send):
    node = send(workflows.plain_retry)
    assert (node.status, node.retries) == ("retrying", 1)
    sim.lose_messages()
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert (node.status, node.result) == ("complete", "retried")


def test_a_plain_task_that_fails_is_called_once_as_celery_would(sim, script, send):
    def work(task):
        raise RuntimeError("no")

    script(work)
    node = send(workflows.scripted_plain)
    sim.advance(days=1)
    node.refresh_from_db()
    assert (node.status, node.retries, len(sim.calls)) == ("failed", 1, 1)
    assert "RuntimeError" in node.error


@pytest.mark.parametrize(("wait", "seconds"), [({}, 180), ({"countdown": 3}, 3)])
def test_a_plain_task_asks_for_retries_as_celery_would(sim, script, send, wait, seconds):
    def work(task):
        task.retry(exc=RuntimeError("no"), **wait)

    script(work)
    node = send(workflows.scripted_plain)
    assert (node.fires_at - sim.now).total_seconds() == pytest.approx(seconds)
    sim.advance(hours=1)
    node.refresh_from_db()
    assert (node.status, node.retries, len(sim.calls)) == ("failed", 4, 4)
    assert "RuntimeError" in node.error


@pytest.mark.parametrize(
    ("error", "calls"), [(KeyError("named"), 4), (OSError("not named"), 1), (Ignore(), 1)]
)
def test_a_plain_task_is_retried_for_what_its_author_named(sim, send, register, error, calls):
    def run(self):
        raise error

    node = send(register(Task, run=run, autoretry_for=(LookupError,), retry_backoff=2))
    sim.advance(hours=1)
    node.refresh_from_db()
    assert node.status == ("complete" if isinstance(error, Ignore) else "failed")
    assert len(sim.calls) == calls


@pytest.mark.parametrize(("named", "status"), [((OSError,), "failed"), ((Exception,), "retrying")])
def test_a_plain_task_that_times_out_is_retried_if_any_error_is(
    sim, send, register, named, status
):
    task = register(
        Task, run=lambda self: None, autoretry_for=named, timeout=60, awaits_completion=True
    )
    node = send(task)
    sim.advance(seconds=61)
    node.refresh_from_db()
    assert node.attempts[0].outcome == "timed_out"
    assert node.status == status


def test_a_failure_reported_of_a_plain_task_follows_the_same_rule(send, register):
    task = register(Task, run=lambda self: None, autoretry_for=(OSError,), awaits_completion=True)
    for error, status in [("no", "failed"), (KeyError(), "failed"), (OSError(), "retrying")]:
        node = send(task, name=status + str(error))
        node.fail(error)
        assert node.status == status


def test_autoretry_takes_the_wait_and_the_limit_of_its_retry_kwargs(sim, send):
    node = send(workflows.plain_autoretry.s(99))
    assert 7 * 0.8 <= (node.fires_at - sim.now).total_seconds() <= 7 * 1.2
    sim.advance(minutes=5)
    node.refresh_from_db()
    assert (node.status, node.retries) == ("failed", 2)


def test_a_class_based_task_runs(send, register):
    task = register(Task, run=lambda self, x: x * 2)
    assert send(task.s(4)).result == 8


def test_a_class_based_node_task_runs(send, register):
    task = register(NodeTask, run=lambda self, x: (x, current_node().attempt))
    assert send(task.s(4)).result == [4, 1]


@pytest.mark.parametrize("base", [Task, NodeTask])
def test_hooks_of_the_author_are_called_with_the_nodes_arguments(send, register, base):
    seen = []
    task = register(
        base,
        run=lambda self, x: x,
        before_start=lambda self, task_id, args, kwargs: seen.append(("before", args)),
        on_success=lambda self, result, task_id, args, kwargs: seen.append(("success", args)),
        after_return=lambda self, status, r, i, args, kw, info: seen.append((status, args)),
    )
    node = send(task.s(4))
    assert node.status == "complete"
    assert [(name, list(args)) for name, args in seen] == [
        ("before", [4]),
        ("success", [4]),
        ("SUCCESS", [4]),
    ]


def test_hooks_of_the_author_are_told_a_result_that_no_log_shows(send, register, settings):
    settings.BACKBEAT = {"REDACT": ["card"]}
    seen = []
    task = register(
        NodeTask,
        run=lambda self: {"card": "canary"},
        on_success=lambda self, result, *rest: seen.append(result),
        after_return=lambda self, status, result, *rest: seen.append(result),
    )
    assert send(task.s()).result == {"card": "canary"}
    assert seen == [{"card": "canary"}] * 2


@pytest.mark.parametrize(("base", "status"), [(Task, "failed"), (NodeTask, "retrying")])
def test_what_an_authors_before_start_raises_is_a_failure(send, register, base, status):
    def before_start(self, task_id, args, kwargs):
        raise RuntimeError("not today")

    node = send(register(base, run=lambda self: None, before_start=before_start).s())
    assert node.status == status
    assert (node.retries, node.lost_attempts) == (1, 0)
    assert "not today" in node.error


@pytest.mark.parametrize("base", [Task, NodeTask])
def test_a_hook_for_failure_is_called_at_the_end_and_one_for_retry_before(
    sim, send, register, base
):
    seen = []

    def run(self):
        raise RuntimeError("no")

    task = register(
        base,
        run=run,
        autoretry_for=(RuntimeError,),
        max_retries=1,
        on_retry=lambda self, exc, *rest: seen.append(("retry", str(exc))),
        on_failure=lambda self, exc, *rest: seen.append(("failure", str(exc))),
    )
    send(task)
    sim.advance(minutes=4)
    assert seen == [("retry", "no"), ("failure", "no")]


@pytest.mark.parametrize("base", [Task, NodeTask])
def test_a_base_class_may_wrap_its_calls(send, register, base):
    seen = []

    def call(self, *args, **kwargs):
        seen.append("around")
        return base.__call__(self, *args, **kwargs)

    task = register(base, run=lambda self, x: x, __call__=call)
    node = send(task.s(4))
    assert (node.status, node.result, seen) == ("complete", 4, ["around"])


@pytest.mark.parametrize("call", [workflows.plain, workflows.done, workflows.fatal])
def test_calling_a_task_directly_is_an_ordinary_call(db, call):
    if call is workflows.fatal:
        with pytest.raises(ValueError, match="no use"):
            call()
    else:
        assert call(1) in {1, 2}
    assert not Node.objects.exists()


def test_apply_is_an_ordinary_call(db):
    assert workflows.plain.apply((1,)).get() == 2
    assert workflows.done.apply((7,)).get() == 7
    assert workflows.plain_retry.apply().get() == "retried"
    with pytest.raises(NotInNode):
        workflows.flaky.apply((0,)).get()


def test_a_task_called_inside_a_handler_is_part_of_that_node(script, send):
    script(lambda task: workflows.plain(1) + workflows.done.apply((5,)).get())
    assert send(workflows.scripted).result == 7
    assert Node.objects.filter(task=workflows.plain.name).count() == 0


def test_a_handler_may_call_its_own_task(script, send):
    script(lambda task: "inner", "inner")
    script(lambda task: task("inner") + " " + task.apply(("inner",)).get())
    assert send(workflows.scripted).result == "inner inner"


def test_a_handler_may_replace_itself(script, send):
    script(lambda task: task.replace(workflows.plain.s(3)))
    node = send(workflows.scripted)
    assert node.status == "complete"
    assert node.get_result() == node.children.get().result


def test_a_retry_with_other_arguments_is_refused(script, send):
    script(lambda task: task.retry(args=(1,)))
    assert "UnsupportedOption" in send(workflows.scripted).error


@pytest.mark.parametrize("task", [workflows.scripted, workflows.scripted_plain])
def test_the_request_looks_as_celery_users_know_it(script, send, task):
    script(lambda t: [t.request.args, t.request.kwargs, t.request.retries, bool(t.request.id)])
    assert send(task.s(name="main")).result == [[], {"name": "main"}, 0, True]


TASK_CLS = """
import django; django.setup()
from celery import Celery
from django.core.management import call_command
from backbeat_celery import NodeTask, signal
from backbeat_celery.testing import Simulation

app = Celery("whole", task_cls=NodeTask)
app.set_default()

@app.task(max_retries=1)
def double(x):
    return x * 2

call_command("migrate", verbosity=0)
with Simulation() as sim:
    node = signal(double.s(4), subject="camera")
    sim.run()
    node.refresh_from_db()
    print(isinstance(double, NodeTask), node.status, node.result)
"""


@pytest.fixture
def alone(tmp_path):
    """Run a script in a process of its own, with nothing in the settings that need not be."""
    (tmp_path / "alone.py").write_text(
        "SECRET_KEY = 'x'\nUSE_TZ = True\n"
        "INSTALLED_APPS = ['django.contrib.contenttypes', 'backbeat_celery']\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
    )

    def run(script):
        return subprocess.run(
            [sys.executable, "-c", script],
            env={"DJANGO_SETTINGS_MODULE": "alone", "PYTHONPATH": f"{tmp_path}:."},
            capture_output=True,
            text=True,
            timeout=pace.allowed(120),
        )

    return run


def test_a_whole_project_may_use_the_class(alone):
    done = alone(TASK_CLS)
    assert done.stdout.split() == ["True", "complete", "8"], done.stderr


class Batches(Task):
    """Takes its messages off the queue in a way of its own, as celery-batches' tasks do."""

    def Strategy(self, task, app, consumer): ...


def test_a_task_that_takes_its_messages_itself_is_refused(register, script, send):
    made = register(Batches, run=lambda self: None)
    with pytest.raises(UnsupportedOption, match="Strategy"):
        send(made)
    script(lambda task: current_node().spawn(made.s()))
    assert "Strategy" in send(workflows.scripted).error
    assert not Node.objects.filter(task=made.name).exists()


TASK_CLASSES = """
import django

django.setup()
from celery import Celery, shared_task
from celery.contrib.django.task import DjangoTask
from django.core.management import call_command

from backbeat_celery import NodeTask, node_task, signal
from backbeat_celery.testing import Simulation


class Tenant(DjangoTask):
    calls = []

    def __init__(self):
        self.made = True

    def get_tenant(self):
        return "acme"

    def before_start(self, task_id, args, kwargs):
        self.calls.append(("before", args))

    def __call__(self, *args, **kwargs):
        self.calls.append(("around", list(args)))
        return super().__call__(*args, **kwargs)


@node_task(name="early")
def early(): ...


class Tried(NodeTask):
    max_retries = 9


app = Celery("tenants", task_cls=Tenant)
app.set_current()


@node_task(name="late")
def late(x):
    return x


@shared_task(name="other", base=Tried)
def other(): ...


own = Celery("nodes", task_cls=Tried, set_as_current=False)
for task in (early, late, other):
    assert isinstance(task, NodeTask), task
    assert (task.get_tenant(), task.made) == ("acme", True), task
    assert (task.acks_late, task.ignore_result) == (True, True)
assert (other.max_retries, own.tasks["early"].max_retries) == (9, 9)
assert not hasattr(own.tasks["early"], "get_tenant")

call_command("migrate", verbosity=0)
with Simulation() as sim:
    node = signal(late.s(5), subject="camera")
    sim.run()
node.refresh_from_db()
assert (node.status, node.result) == ("complete", 5), node.error
assert Tenant.calls == [("before", [5]), ("around", [5])], Tenant.calls
"""


def test_node_tasks_have_what_the_app_gives_to_all_its_tasks(alone):
    """Also one that was written before there was an app, as shared tasks are."""
    done = alone(TASK_CLASSES)
    assert done.returncode == 0, done.stderr
