"""A node that waits for a signal of another workflow."""

from __future__ import annotations

import pytest

from backbeat_celery import signal
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
