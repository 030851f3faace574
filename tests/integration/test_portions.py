"""What is done to many at once is read and written in portions."""

from __future__ import annotations

import pytest

from backbeat_celery import current_node, signal
from backbeat_celery.models import Node, Workflow
from backbeat_celery.verbs import add_child
from tests import workflows
from tests.counting import fetched

pytestmark = pytest.mark.exact
PORTION, MANY = 5, 18


@pytest.fixture(autouse=True)
def portions(monkeypatch):
    for name in ("order.turns", "delivery.wide_stages", "awaiting"):
        monkeypatch.setattr(f"backbeat_celery.engine.{name}.AT_ONCE", PORTION)
    monkeypatch.setattr("backbeat_celery.verbs.workflows.AT_ONCE", PORTION)
    for name in ("engine.order.cancel", "engine.order.subtree", "verbs.workflows"):
        monkeypatch.setattr(f"backbeat_celery.{name}.BATCH", PORTION)


@pytest.fixture
def wide(sim, script):
    """A node with many children, some of which have a child themselves."""

    def work(task):
        node = current_node()
        node.spawn_many([workflows.done.s() for _ in range(MANY)], mode="non_blocking", delay=60)
        node.spawn_many([workflows.tree.s({"spawn": [{"delay": 60}]})] * 3, mode="non_blocking")

    script(work)
    node = signal(workflows.scripted.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    return node


def statuses(**where):
    return set(Node.objects.filter(parent__isnull=False, **where).values_list("status", flat=True))


@pytest.mark.parametrize("verb", ["cancel", "reset"])
def test_a_wide_node_is_cleared_in_portions(sim, wide, verb):
    with fetched() as rows:
        getattr(wide, verb)()
    assert rows.most <= PORTION
    assert statuses(parent=wide) == {"canceled"}
    assert statuses(parent__parent=wide) == {"canceled"}


def test_a_workflow_is_canceled_in_portions(sim, wide):
    for _ in range(MANY):
        signal(workflows.done.s(), subject="camera", name=wide.workflow.name)
    sim.lose_messages()
    with fetched() as rows:
        wide.workflow.cancel()
    assert rows.most <= PORTION
    assert statuses() == {"canceled"}
    # Nobody's turn has come for what was canceled before.
    assert {
        len(node.history) for node in Node.objects.filter(seq__gt=0, parent=wide.parent_id)
    } == {2}
    assert sim.in_flight == 0


def test_a_workflow_is_resumed_in_portions(sim, wide):
    wide.workflow.pause()
    sim.advance(minutes=2)
    assert statuses(parent=wide, seq__lt=MANY) == {"paused"}
    with fetched() as rows:
        wide.workflow.resume()
    assert rows.most <= PORTION
    assert sim.in_flight == PORTION
    sim.advance(seconds=10)
    assert statuses() == {"complete"}


def test_children_that_waited_for_the_handler_are_released_in_portions(sim):
    node = signal(workflows.done.s(), subject="camera")
    for _ in range(MANY):
        add_child(node, workflows.done.s(), mode="non_blocking")
    with fetched() as rows:
        assert sim.step()
    assert rows.most <= PORTION
    sim.run()
    assert statuses() == {"complete"}


def test_what_came_before_is_canceled_in_portions(sim, wide):
    last = signal(workflows.done.s(), subject="camera", name=wide.workflow.name)
    with fetched() as rows:
        last.cancel_previous()
    # The ids of all that came before are read to find the topmost, but no rows.
    assert rows.most <= MANY + PORTION + 10
    assert statuses(parent=wide) == {"canceled"}
    sim.run()
    last.refresh_from_db()
    assert last.status == "complete"
    assert Workflow.objects.get().root.status == "waiting"
