"""A task that is called once when a node's retries are exhausted."""

from __future__ import annotations

from datetime import date

import pytest
from celery import chain, current_app, group, signature

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.exceptions import BadInput, BadPayload, UnknownTask, UnsupportedOption
from backbeat_celery.models import Node
from tests import workflows
from tests.stateful import invariants


@pytest.fixture
def rescue(script):
    """Say what the rescue does."""

    def write(function):
        script(function, name="rescue")

    return write


@pytest.fixture
def exhaust(sim):
    """Signal a node that fails for good, and let its rescue run."""

    def run(*args, **options):
        node = signal(workflows.rescued.s(*args), subject="camera", **options)
        sim.run()
        sim.advance(seconds=30)
        node.refresh_from_db()
        return node

    return run


@pytest.fixture
def exhausted(sim):
    """A failed node whose rescue waits for its message: the worker died after the record."""

    def make(*args):
        node = signal(workflows.rescued.s(*args), subject="camera")
        sim.run()
        sim.kill_next("after_record")
        sim.advance(seconds=12)
        node.refresh_from_db()
        assert node.status == "failed"
        assert [child.status for child in rescues(node)] == ["queued"]
        return node

    return make


@pytest.fixture(autouse=True)
def sound(sim):
    yield
    assert not invariants.broken_now()


def rescues(node):
    return list(node.children.filter(rescue=True).order_by("seq"))


def test_it_is_called_once_with_the_id_of_the_failed_node(exhaust, rescue):
    seen = []
    rescue(seen.append)
    node = exhaust()
    assert node.status == "failed"
    assert seen == [node.pk]
    (child,) = rescues(node)
    assert (child.name, child.status, child.mode) == (
        "tests.workflows.rescuing",
        "complete",
        "fire_and_forget",
    )


def test_it_is_recorded_with_the_failure(sim, rescue, exhausted):
    """Whoever makes the node failed may die at once: the rescue is there."""
    seen = []
    rescue(seen.append)
    node = exhausted()
    sim.advance(minutes=2)
    assert seen == [node.pk]


def test_it_is_not_called_while_there_are_retries(sim, rescue):
    rescue(lambda node_id: pytest.fail("too early"))
    node = signal(workflows.rescued.s(2), subject="camera")
    sim.run()
    sim.advance(seconds=30)
    node.refresh_from_db()
    assert (node.status, rescues(node)) == ("complete", [])


def test_what_waits_for_the_failed_node_keeps_waiting(sim, rescue, exhaust):
    rescue(lambda node_id: None)
    node = exhaust(name="sale")
    behind = signal(workflows.done.s(), subject="camera", name="sale")
    sim.advance(hours=1)
    behind.refresh_from_db()
    assert (node.status, behind.status) == ("failed", "ready")


@pytest.mark.parametrize("verb", ["resolve", "shutdown"])
def test_it_may_settle_the_node_that_failed(sim, rescue, exhaust, verb):
    rescue(lambda node_id: getattr(Node.objects.get(pk=node_id), verb)(by="rescue"))
    node = exhaust(name="sale")
    assert (node.status, node.outcome) == (
        "complete",
        {"resolve": "resolved", "shutdown": "shutdown"}[verb],
    )
    assert [child.status for child in rescues(node)] == ["complete"]


def test_it_may_have_the_node_tried_again(sim, rescue, exhaust):
    rescue(lambda node_id: Node.objects.get(pk=node_id).retry())
    node = exhaust(3)
    assert (node.status, node.result) == ("complete", 3)
    assert [child.status for child in rescues(node)] == ["complete"]


def test_it_is_called_again_at_the_next_exhaustion(sim, rescue, exhaust):
    calls = []
    rescue(lambda node_id: calls.append(node_id) or len(calls))
    node = exhaust()
    node.retry()
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert node.status == "failed"
    assert calls == [node.pk, node.pk]


def test_it_may_spawn(sim, rescue, exhaust):
    rescue(lambda node_id: current_node().spawn(workflows.done.s("refund")) and None)
    node = exhaust()
    (child,) = rescues(node)
    assert [grandchild.result for grandchild in child.children.all()] == ["refund"]


def test_children_it_adds_to_the_failed_node_run_when_that_is_resolved(sim, rescue, exhaust):
    def work(node_id):
        Node.objects.get(pk=node_id).add_child(workflows.done.s("by hand"))

    rescue(work)
    node = exhaust()
    added = node.children.get(rescue=False)
    assert added.status == "pending"
    node.resolve()
    assert (node.status, node.outcome) == ("waiting", "resolved")
    sim.run()
    node.refresh_from_db()
    added.refresh_from_db()
    assert (node.status, node.outcome, added.status) == ("complete", "resolved", "complete")


def test_a_failing_rescue_is_visible_and_harms_nothing(sim, rescue, exhaust):
    def work(node_id):
        raise RuntimeError("no help")

    rescue(work)
    node = exhaust()
    sim.advance(minutes=2)
    (child,) = rescues(node)
    assert (child.status, child.retries) == ("failed", 3)
    node.resolve()
    sim.run()
    assert (node.status, node.outcome) == ("complete", "resolved")


def test_cancel_takes_the_rescue_along(exhausted):
    node = exhausted()
    node.cancel()
    assert [child.status for child in rescues(node)] == ["canceled"]


@pytest.mark.parametrize("verb", ["retry", "resolve", "shutdown"])
def test_a_verb_that_settles_the_node_spares_its_rescue(sim, rescue, exhausted, verb):
    seen = []
    rescue(seen.append)
    node = exhausted(3)
    getattr(node, verb)()
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, seen) == ("complete", [node.pk])
    assert [child.status for child in rescues(node)] == ["complete"]


def test_a_node_that_kills_its_workers_is_rescued(sim, rescue, settings):
    settings.BACKBEAT = {"MAX_LOST_ATTEMPTS": 1}
    seen = []
    rescue(seen.append)
    node = signal(workflows.rescued.s(), subject="camera")
    sim.kill_next("in_handler")
    sim.run()
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, seen) == ("failed", [node.pk])


def test_it_waits_while_the_workflow_is_paused(sim, rescue, exhausted):
    seen = []
    rescue(seen.append)
    node = exhausted()
    node.workflow.pause()
    sim.advance(minutes=5)
    assert seen == []
    node.workflow.resume()
    sim.run()
    assert seen == [node.pk]


def test_a_rescue_that_does_not_exist_is_told_at_once(sim):
    with pytest.raises(UnknownTask, match=r"tests\.workflows\.nobody"):
        signal(workflows.rescued_by_nobody.s(), subject="camera")
    assert not Node.objects.exists()


# A rescue of one call ---------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch):
    """Every call of the task that comes to the rescue here, with its arguments."""
    seen = []
    monkeypatch.setitem(
        workflows.scripts, "helper", lambda *args, **kwargs: seen.append((args, kwargs))
    )
    return seen


@pytest.mark.parametrize(
    "given",
    [workflows.helper, workflows.helper.name, workflows.helper.s()],
    ids=["task", "name", "signature"],
)
@pytest.mark.parametrize(
    "task", [workflows.rescued, workflows.fatal, workflows.scripted_plain], ids=lambda t: t.name
)
def test_a_node_may_have_its_own(sim, script, calls, given, task):
    script(lambda task: 1 / 0)
    node = signal(task.s(), subject="camera", rescue=given)
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert (node.status, calls) == ("failed", [((node.pk,), {})])
    assert [child.name for child in rescues(node)] == [workflows.helper.name]


def test_its_signature_keeps_its_arguments_and_options(sim, calls):
    rescue = workflows.helper.s("mail", day=date(2030, 1, 1)).set(queue="urgent", priority=7)
    node = signal(workflows.fatal.s(), subject="camera", rescue=rescue)
    sim.run()
    (child,) = rescues(node)
    assert (child.mode, child.args, child.kwargs) == (
        "fire_and_forget",
        [node.pk, "mail"],
        {"day": date(2030, 1, 1)},
    )
    assert (child.options["queue"], child.options["priority"]) == ("urgent", 7)
    assert calls == [((node.pk, "mail"), {"day": date(2030, 1, 1)})]


def test_an_immutable_signature_gets_nothing(sim, calls):
    node = signal(workflows.fatal.s(), subject="camera", rescue=workflows.helper.si("mail"))
    sim.run()
    assert calls == [(("mail",), {})]
    assert len(rescues(node)) == 1


def test_its_countdown_counts_from_the_failure(sim, calls):
    rescue = workflows.helper.s().set(countdown=60)
    signal(workflows.fatal.s(), subject="camera", delay=600, rescue=rescue)
    sim.advance(seconds=650)
    assert calls == []
    sim.advance(seconds=20)
    assert len(calls) == 1


@pytest.mark.parametrize("way", ["signal_many", "workflow.signal", "add_child", "spawn"])
def test_every_way_to_make_a_node_takes_one(sim, script, calls, way):
    bad, options = workflows.fatal.s(), {"rescue": workflows.helper.s()}
    if way == "signal_many":
        signal_many([(bad, {"subject": "camera", **options})])
    else:
        script(lambda task: current_node().spawn(bad, **options) and None if way == "spawn" else 0)
        parent = signal(workflows.scripted, subject="camera")
        if way == "add_child":
            parent.add_child(bad, **options)
        elif way == "workflow.signal":
            parent.workflow.signal(bad, **options)
    sim.run()
    node = Node.objects.get(task=workflows.fatal.name)
    assert calls == [((node.pk,), {})]


def test_it_follows_its_own_retries(sim, script, monkeypatch):
    seen = []

    def work(*args):
        seen.append(args)
        raise RuntimeError("no help")

    monkeypatch.setitem(workflows.scripts, "helper", work)
    node = signal(workflows.fatal.s(), subject="camera", rescue=workflows.helper, max_retries=9)
    sim.advance(hours=1)
    assert len(seen) == 2
    assert [child.status for child in rescues(node)] == ["failed"]


def test_it_is_called_by_the_sweeper_and_after_a_report(sim, calls, script, settings):
    settings.BACKBEAT = {"MAX_LOST_ATTEMPTS": 1}
    lost = signal(workflows.done.s(), subject="camera", rescue=workflows.helper)
    sim.kill_next("in_handler")
    sim.run()
    sim.advance(minutes=2)
    told = signal(workflows.awaiting, subject="lens", rescue=workflows.helper, max_retries=0)
    sim.run()
    told.fail("no")
    sim.run()
    assert calls == [((lost.pk,), {}), ((told.pk,), {})]


def test_it_is_called_by_a_process_that_does_not_know_the_tasks(sim, calls, monkeypatch):
    node = signal(
        workflows.awaiting,
        subject="camera",
        max_retries=0,
        rescue=workflows.helper.s("mail").set(queue="urgent"),
    )
    sim.run()
    helper = workflows.helper.name
    with monkeypatch.context() as without:
        for name in (workflows.awaiting.name, helper):
            without.delitem(current_app.tasks, name)
        node.fail("no")
        (child,) = rescues(node)
        assert (child.name, child.options["queue"]) == (helper, "urgent")
    sim.run()
    assert calls == [((node.pk, "mail"), {})]


def test_it_gets_the_headers_of_the_failed_node(sim, script):
    seen = []
    workflows.scripts["helper"] = lambda *args: seen.append(
        {k: v for k, v in (workflows.helper.request.headers or {}).items() if k in {"user", "by"}}
    )
    signal(
        workflows.fatal.s().set(headers={"user": "olga", "by": "mail"}),
        subject="camera",
        rescue=workflows.helper.s().set(headers={"by": "rescue"}),
    )
    sim.run()
    assert seen == [{"user": "olga", "by": "rescue"}]


def test_each_task_of_a_canvas_has_it(sim, calls):
    canvas = group(workflows.fatal.s(), workflows.done.s(), workflows.fatal.s())
    signal(canvas, subject="camera", rescue=workflows.helper)
    sim.run()
    failed = Node.objects.filter(status="failed").values_list("pk", flat=True)
    assert sorted(args for args, _ in calls) == sorted((pk,) for pk in failed)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("tests.workflows.nobody", UnknownTask),
        (signature("tests.workflows.nobody"), UnknownTask),
        (workflows.helper.s(unknown=1), BadInput),
        (workflows.plain.s(1, 2, 3), BadInput),
        (workflows.helper.s({1}), BadPayload),
        (workflows.helper.s().set(no_such_option=1), UnsupportedOption),
        (chain(workflows.helper.s(), workflows.done.s()), BadInput),
        (group(workflows.helper.s(), workflows.done.s()), BadInput),
        (7, BadInput),
        ("", UnknownTask),
    ],
)
def test_one_that_cannot_be_called_is_told_at_once(sim, given, error):
    with pytest.raises(error):
        signal(workflows.done.s(), subject="camera", rescue=given)
    assert not Node.objects.exists()
