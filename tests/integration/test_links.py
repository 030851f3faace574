"""A node that waits for a signal of another workflow."""

from __future__ import annotations

import pytest

from backbeat_celery import current_node, signal
from backbeat_celery.exceptions import LinkCycle
from backbeat_celery.models import Link
from tests import workflows


def test_the_linking_node_waits_for_the_signal(sim):
    waiting = signal(workflows.tree.s({"spawn": [{"delay": 3600}]}), subject="camera")
    sim.run()
    far = signal(workflows.done.s(), subject="lens", link=waiting, delay=7200)
    sim.advance(seconds=3700)
    waiting.refresh_from_db()
    assert waiting.status == "waiting"
    sim.advance(seconds=3700)
    waiting.refresh_from_db()
    far.refresh_from_db()
    assert (waiting.status, far.status) == ("complete", "complete")


def test_a_handler_that_links_itself_waits(sim):
    node = signal(workflows.linking.s("lens"), subject="camera")
    signal(workflows.done.s(), subject="lens", name="tests.workflows.done")
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"
    assert [t.to_status for t in node.history][-2:] == ["waiting", "complete"]


@pytest.mark.parametrize("point", ["in_handler", "after_handler"])
def test_an_attempt_that_links_again_has_one_link(sim, point):
    node = signal(workflows.linking.s("lens"), subject="camera")
    sim.kill_next(point)
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert node.status == "complete"
    assert Link.objects.filter(source=node).count() == 1


def test_a_repeated_key_links_too(sim):
    first = signal(workflows.done.s(), subject="lens", key="once", delay=60)
    waiting = signal(workflows.tree.s({"spawn": [{"delay": 30}]}), subject="camera")
    sim.run()
    assert signal(workflows.done.s(), subject="lens", key="once", link=waiting).pk == first.pk
    sim.advance(seconds=45)
    waiting.refresh_from_db()
    assert waiting.status == "waiting"
    sim.advance(seconds=30)
    waiting.refresh_from_db()
    assert waiting.status == "complete"


def test_a_circle_is_refused_and_leaves_nothing(sim):
    node = signal(workflows.tree.s({"spawn": [{"delay": 60}]}), subject="camera")
    sim.run()
    with pytest.raises(LinkCycle):
        signal(workflows.done.s(), subject="camera", name="tests.workflows.tree", link=node)
    assert not Link.objects.exists()
    assert node.workflow.nodes.count() == 3


def test_the_linked_signal_may_end_before_the_handler_does(sim, script):
    def work(task):
        far.append(signal(workflows.done.s(), subject="lens", link=current_node().id))
        for _ in range(5):
            sim.step()  # another worker, meanwhile
        far[0].refresh_from_db()
        assert far[0].status == "complete"

    far = []
    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert (node.status, node.retries) == ("complete", 0)


def test_a_link_to_a_failed_signal_waits_until_that_is_settled(sim, run_tree):
    node = run_tree({"delay": 30})
    far = signal(workflows.fatal.s(), subject="lens", link=node)
    sim.advance(minutes=1)
    node.refresh_from_db()
    far.refresh_from_db()
    assert (node.status, far.status) == ("waiting", "failed")
    far.resolve()
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_linked_fire_and_forget_signal_is_waited_for(sim, run_tree):
    node = run_tree({"delay": 30})
    signal(workflows.done.s(), subject="lens", link=node, mode="fire_and_forget", delay=120)
    sim.advance(minutes=1)
    node.refresh_from_db()
    assert node.status == "waiting"
    sim.advance(minutes=2)
    node.refresh_from_db()
    assert node.status == "complete"


def test_the_wait_takes_in_the_line_before_the_linked_signal(sim, run_tree):
    slow = signal(workflows.done.s(), subject="lens", delay=3600)
    node = run_tree({"delay": 30})
    signal(workflows.done.s(), subject="lens", link=node)
    sim.advance(minutes=30)
    node.refresh_from_db()
    assert node.status == "waiting"
    slow.cancel()
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_link_holds_back_what_is_behind_the_linking_node(sim, run_tree):
    node = run_tree({"delay": 30})
    behind = signal(workflows.done.s(), subject="camera", name="tests.workflows.tree")
    signal(workflows.done.s(), subject="lens", link=node, delay=60)
    sim.advance(seconds=45)
    behind.refresh_from_db()
    assert behind.status == "ready"
    sim.advance(seconds=30)
    behind.refresh_from_db()
    assert behind.status == "complete"
