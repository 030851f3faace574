"""Signals: transactions, names, times, links, runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import transaction

from backbeat_celery import Mode, signal, signal_many
from backbeat_celery.exceptions import InvalidTransition, LinkCycle, WorkflowClosed
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.testing import Simulation
from backbeat_celery.verbs import add_child
from tests import workflows


def close(workflow, sim):
    """Close by hand, as `close()` will."""
    Workflow.objects.filter(pk=workflow.pk).update(closed_at=sim.now)


def test_the_workflow_has_the_name_of_the_task_unless_told(sim):
    assert signal(workflows.done.s(), subject="camera").workflow.name == workflows.done.name
    assert signal(workflows.done.s(), subject="camera", name="buy").workflow.name == "buy"


def test_the_node_has_the_name_of_its_task(sim):
    node = signal(workflows.done.s(), subject="camera", name="buy")
    assert (node.name, node.task) == (workflows.done.name, workflows.done.name)


def test_signals_of_one_name_and_subject_share_a_workflow(sim):
    nodes = [signal(t.s(), subject="camera", name="buy") for t in (workflows.done, workflows.slow)]
    assert len({node.workflow_id for node in nodes}) == 1
    assert [node.seq for node in nodes] == [0, 1]


def test_a_model_instance_may_be_the_subject(sim):
    group = Group.objects.create(name="g")
    node = signal(workflows.done.s(), subject=group)
    assert node.workflow.subject == f"auth.group:{group.pk}"
    assert Workflow.objects.for_subject(group, workflows.done.name) == node.workflow


def test_for_subject_opens_a_workflow_once(db):
    first = Workflow.objects.for_subject("camera", "buy")
    assert Workflow.objects.for_subject("camera", "buy") == first
    assert (first.run, first.root.status) == (1, "waiting")


def test_metadata_options_and_arguments_are_kept(sim):
    signature = workflows.done.s(1, y=2).set(queue="slow", priority=3)
    node = signal(signature, subject="camera", metadata={"order": [7]})
    node.refresh_from_db()
    assert (node.args, node.kwargs, node.metadata) == ([1], {"y": 2}, {"order": [7]})
    assert node.options == {"queue": "slow", "priority": 3}


def test_a_signal_that_is_not_blocking_lets_the_next_one_start(sim):
    signal(workflows.done.s(), subject="camera", delay=60, mode=Mode.NON_BLOCKING)
    assert signal(workflows.done.s(), subject="camera").status == "queued"


def test_a_task_may_not_change_the_mode_of_a_signal(sim):
    """The mode of a task is the default of its spawns alone, however it is signalled."""
    task = workflows.non_blocking_by_default.s()
    [many] = signal_many([(task, {"subject": "a"})])
    one = signal(task, subject="b")
    assert (one.mode, many.mode) == ("blocking", "blocking")


def test_a_signal_waits_for_its_time(sim):
    at = sim.now + timedelta(hours=1)
    node = signal(workflows.done.s(), subject="camera", fires_at=at)
    sim.advance(minutes=59)
    assert sim.calls == []
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert node.status == "complete"
    assert node.started_at >= at


def test_a_time_that_has_passed_is_now(sim):
    signal(workflows.done.s(), subject="camera", fires_at=sim.now - timedelta(days=9))
    sim.run()
    assert len(sim.calls) == 1


def test_a_signal_is_rolled_back_with_its_transaction(sim):
    with transaction.atomic():
        signal(workflows.done.s(), subject="camera")
        transaction.set_rollback(True)
    sim.advance(minutes=5)
    assert not Workflow.objects.exists()
    assert sim.calls == []


@pytest.mark.django_db(transaction=True)
def test_a_signal_is_published_after_the_commit():
    with Simulation() as sim:
        with transaction.atomic():
            node = signal(workflows.done.s(), subject="camera")
        sim.run()
        node.refresh_from_db()
        assert node.status == "complete"


def test_signal_many_keeps_the_order_of_its_list(sim):
    subjects = ["b", "a", "b", "c", "a"]
    items = [(workflows.done.s(n), {"subject": s}) for n, s in enumerate(subjects)]
    nodes = signal_many(items)
    assert [node.args for node in nodes] == [[n] for n in range(5)]
    assert [node.workflow.subject for node in nodes] == subjects
    assert [node.seq for node in nodes] == [0, 0, 1, 0, 1]


def test_signal_many_is_all_or_nothing(sim):
    close(Workflow.objects.for_subject("shut", workflows.done.name), sim)
    before = Node.objects.count()
    with pytest.raises(WorkflowClosed):
        signal_many([(workflows.done.s(), {"subject": s}) for s in ("open", "shut")])
    assert Node.objects.count() == before


def test_signal_many_of_nothing_is_nothing(db):
    assert signal_many([]) == []


def test_a_closed_workflow_takes_no_signal_until_it_is_finished(sim):
    node = signal(workflows.done.s(), subject="camera", delay=60)
    close(node.workflow, sim)
    with pytest.raises(WorkflowClosed):
        signal(workflows.done.s(), subject="camera")
    with pytest.raises(WorkflowClosed):
        Workflow.objects.for_subject("camera", workflows.done.name)
    with pytest.raises(WorkflowClosed):
        node.workflow.signal(workflows.done.s())


def test_a_finished_run_is_followed_by_the_next(sim):
    runs = []
    for _ in range(3):
        node = signal(workflows.done.s(), subject="camera")
        close(node.workflow, sim)
        sim.run()
        sim.sweep()
        assert Node.objects.get(pk=node.workflow_id).status == "complete"
        runs.append(node.workflow.run)
    assert runs == [1, 2, 3]


def test_the_old_object_raises_also_when_a_new_run_is_open(sim):
    old = Workflow.objects.for_subject("camera", workflows.done.name)
    close(old, sim)
    sim.sweep()
    assert signal(workflows.done.s(), subject="camera").workflow.run == 2
    with pytest.raises(WorkflowClosed):
        old.signal(workflows.done.s())


def test_a_failed_node_keeps_the_run_unfinished(sim):
    node = signal(workflows.fatal.s(), subject="camera")
    close(node.workflow, sim)
    sim.advance(hours=1)
    with pytest.raises(WorkflowClosed):
        signal(workflows.fatal.s(), subject="camera")


def test_an_open_workflow_never_completes(sim):
    node = signal(workflows.done.s(), subject="camera")
    sim.advance(hours=1)
    assert Node.objects.get(pk=node.workflow_id).status == "waiting"


def test_workflow_signal_adds_to_this_run(sim):
    workflow = Workflow.objects.for_subject("camera", "buy")
    node = workflow.signal(workflows.done.s(), key="k", metadata={"a": 1}, mode="non_blocking")
    sim.run()
    node.refresh_from_db()
    assert (node.workflow, node.key, node.mode) == (workflow, "k", "non_blocking")
    assert node.status == "complete"


def test_a_linked_node_waits_for_the_signal(sim):
    node = signal(workflows.done.s(), subject="camera")
    linked = signal(workflows.done.s(), subject="lens", link=node, delay=60)
    sim.run()
    node.refresh_from_db()
    assert node.status == "waiting"
    sim.advance(seconds=61)
    node.refresh_from_db()
    linked.refresh_from_db()
    assert (node.status, linked.status) == ("complete", "complete")


def test_a_handler_may_link_itself(sim):
    node = signal(workflows.linking.s("lens"), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"
    assert [t.to_status for t in node.history] == ["queued", "running", "waiting", "complete"]


def test_a_linked_node_holds_back_what_is_behind_it(sim):
    node = signal(workflows.done.s(1), subject="camera")
    signal(workflows.done.s(2), subject="camera")
    signal(workflows.done.s(3), subject="lens", link=node.pk, delay=60)
    sim.advance(seconds=61)
    assert [call.args[0] for call in sim.calls] == [1, 3, 2]


def test_a_finished_node_cannot_link(sim):
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    with pytest.raises(InvalidTransition) as caught:
        signal(workflows.done.s(), subject="lens", link=node)
    assert (caught.value.current, caught.value.node_id) == ("complete", node.pk)
    assert not Workflow.objects.filter(subject="lens").exists()


def test_a_link_into_the_own_line_is_a_cycle(sim):
    node = signal(workflows.done.s(), subject="camera", delay=60)
    with pytest.raises(LinkCycle):
        signal(workflows.done.s(), subject="camera", link=node)
    assert Node.objects.filter(parent__isnull=False).count() == 1


def test_two_links_that_wait_for_each_other_are_a_cycle(sim):
    a = signal(workflows.done.s(), subject="a", delay=60)
    signal(workflows.done.s(), subject="b", delay=60, link=a)
    b = signal(workflows.done.s(), subject="c", delay=60)
    signal(workflows.done.s(), subject="a", link=b)  # behind a, so c waits for b's end, too
    with pytest.raises(LinkCycle):
        signal(workflows.done.s(), subject="c", link=a)
    assert Link.objects.count() == 2


def test_a_closed_workflow_takes_no_child_of_its_root_either(sim):
    node = signal(workflows.done.s(), subject="camera", delay=60)
    Workflow.objects.update(closed_at=sim.now)
    with pytest.raises(WorkflowClosed):
        add_child(node.workflow.root, workflows.done.s())
