"""The only writer of a status: what it refuses, what it writes, and that it is the only one."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import pytest
from django.db.models import Q

import backbeat_celery
from backbeat_celery import signal
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models import Node, Transition
from backbeat_celery.models.transitions import StaleNode, transition, transition_all
from backbeat_celery.states import TRANSITIONS, Status
from tests import workflows

REFUSED = [(a, b) for a, b in product(Status, Status) if b not in TRANSITIONS[a]]
ALLOWED = [(a, b) for a, b in product(Status, Status) if b in TRANSITIONS[a]]


@pytest.fixture
def node(sim):
    return signal(workflows.done.s(), subject="camera")


def put(node: Node, status: str) -> Node:
    """Set a status behind the writer's back, as only a test may."""
    Node.objects.filter(pk=node.pk).update(status=status, started_at=node.created_at)
    node.refresh_from_db()
    return node


@pytest.mark.parametrize(("before", "after"), REFUSED)
def test_a_refused_pair_raises_and_writes_nothing(node, before, after):
    put(node, before)
    with pytest.raises(InvalidTransition) as caught:
        transition(node, after)
    assert (caught.value.current, caught.value.attempted) == (before, after)
    assert caught.value.node_id == node.pk
    node.refresh_from_db()
    assert node.status == before
    assert not Transition.objects.exists()


@pytest.mark.parametrize(("before", "after"), ALLOWED)
def test_an_allowed_pair_is_written_with_its_history(node, before, after):
    transition(put(node, before), after, reason="why", actor="who")
    node.refresh_from_db()
    assert node.status == after
    last = node.history[-1]
    assert last.to_status == after
    if after != Status.RUNNING:
        assert (last.from_status, last.reason, last.actor) == (before, "why", "who")


def test_a_row_that_has_changed_meanwhile_is_stale(node):
    seen = Node.objects.get(pk=node.pk)
    transition(node, Status.CANCELED)
    with pytest.raises(StaleNode):
        transition(seen, Status.PAUSED)
    assert Transition.objects.count() == 1


def test_a_row_that_does_not_match_the_guard_is_stale(node):
    with pytest.raises(StaleNode):
        transition(node, Status.CANCELED, guard=Q(attempt=7))
    node.refresh_from_db()
    assert node.status == "queued"
    assert not Transition.objects.exists()


def test_other_columns_are_written_with_the_status(node):
    transition(node, Status.FAILED, error="it broke")
    assert node.error == "it broke"
    node.refresh_from_db()
    assert node.error == "it broke"


def test_the_step_into_running_is_written_with_the_step_that_ends_it(node):
    transition(node, Status.RUNNING, attempt=1, started_at=node.created_at)
    assert not Transition.objects.exists()
    transition(node, Status.COMPLETE)
    steps = Transition.objects.order_by("pk").values_list("from_status", "to_status")
    assert list(steps) == [("queued", "running"), ("running", "complete")]


@pytest.mark.parametrize("status", [Status.COMPLETE, Status.CANCELED])
def test_a_finished_node_holds_no_lease_and_no_time(sim, node, status):
    times = dict.fromkeys(["started_at", "lease_expires_at", "times_out_at"], sim.now)
    transition(node, Status.RUNNING, **times)
    transition(node, status)
    node.refresh_from_db()
    assert (node.lease_expires_at, node.times_out_at, node.publish_at) == (None, None, None)
    assert node.finished_at == sim.now


def test_many_rows_are_moved_in_few_statements(sim, django_assert_max_num_queries):
    nodes = [signal(workflows.done.s(), subject=f"camera {n}") for n in range(20)]
    with django_assert_max_num_queries(3):
        transition_all(nodes, Status.PAUSED)
    assert Transition.objects.filter(to_status="paused").count() == 20


def test_many_rows_of_which_one_has_changed_are_stale(sim):
    nodes = [signal(workflows.done.s(), subject=f"camera {n}") for n in range(3)]
    put(Node.objects.get(pk=nodes[1].pk), "running")
    with pytest.raises(StaleNode):
        transition_all(nodes, Status.PAUSED)
    assert not Transition.objects.exists()


def test_moving_many_rows_refuses_what_the_table_refuses(node):
    with pytest.raises(InvalidTransition):
        transition_all([node], Status.WAITING)


def test_moving_no_rows_is_nothing(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        transition_all([], Status.PAUSED)


@pytest.mark.parametrize(("field", "length"), [("reason", 255), ("actor", 150)])
def test_long_words_are_cut_rather_than_refused(node, field, length):
    transition(node, Status.CANCELED, **{field: "x" * 1000})
    assert len(getattr(node.history[-1], field)) == length


def _modules():
    package = Path(backbeat_celery.__file__).parent
    return [p for p in package.rglob("*.py") if "migrations" not in p.parts]


def _writes_status(tree: ast.AST) -> list[int]:
    """Lines that update a status by a queryset, or assign one."""
    found = []
    for item in ast.walk(tree):
        if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute):
            names = {keyword.arg for keyword in item.keywords}
            is_update = item.func.attr in {"update", "bulk_update", "update_or_create"}
            found += [item.lineno] if is_update and "status" in names else []
        targets = item.targets if isinstance(item, ast.Assign) else []
        found += [t.lineno for t in targets if isinstance(t, ast.Attribute) and t.attr == "status"]
    return found


def test_nobody_else_writes_a_status():
    writers = {
        path.name: lines
        for path in _modules()
        if (lines := _writes_status(ast.parse(path.read_text())))
    }
    writers.pop("transitions.py", None)
    # Children that are not inserted yet are given their first status by their line.
    assert set(writers) <= {"placement.py"}


def test_a_placement_gives_a_status_only_to_slots_of_rows_that_are_not_made_yet():
    path = next(p for p in _modules() if p.name == "placement.py")
    tree = ast.parse(path.read_text())
    line = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Placement")
    given = {
        target.value.id
        for item in ast.walk(line)
        for target in (item.targets if isinstance(item, ast.Assign) else [])
        if isinstance(target, ast.Attribute) and target.attr == "status"
        if isinstance(target.value, ast.Name)
    }
    assert given == {"slot"}
    assert _writes_status(tree) == _writes_status(line)
