"""History, attempts, and the picture of a tree."""

from __future__ import annotations

from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.states import TRANSITIONS, Status
from backbeat_celery.tree import render, tree
from tests import workflows

PARALLEL = {"mode": "non_blocking"}


@pytest.fixture
def seen_inside(sim, script):
    """What `history` and `attempts` show while the handler runs."""
    seen = {}

    def look(task):
        node = Node.objects.get(task=task.name)
        seen["history"] = [(t.from_status, t.to_status, t.attempt) for t in node.history]
        seen["attempts"] = [(a.number, a.outcome, a.finished_at) for a in node.attempts]
        if node.attempt == 1:
            raise RuntimeError

    script(look)
    signal(workflows.scripted.s(), subject="camera")
    return seen


def test_the_history_of_a_running_node_ends_with_running(sim, seen_inside):
    sim.run()
    assert seen_inside["history"] == [("", "queued", 0), ("queued", "running", 1)]


def test_the_history_of_a_retried_node_is_one_path(sim, seen_inside):
    sim.advance(seconds=11)
    assert seen_inside["history"] == [
        ("", "queued", 0),
        ("queued", "running", 1),
        ("running", "retrying", 1),
        ("retrying", "running", 2),
    ]


def test_the_attempts_of_a_running_node_show_the_running_one(sim, seen_inside):
    sim.advance(seconds=11)
    (first, outcome, at), (second, open_outcome, open_at) = seen_inside["attempts"]
    assert (first, outcome, second, open_outcome, open_at) == (1, "failed", 2, "", None)
    assert at is not None


def test_the_history_of_every_node_is_a_path_through_the_table(sim, run_tree):
    run_tree({"shape": {"fail_until": 2, "spawn": [PARALLEL]}}, {"flag": "f"}, {"barrier": True})
    sim.advance(minutes=10)
    for node in Node.objects.all():
        steps = [(t.from_status, t.to_status) for t in node.history]
        assert steps[0][0] == ""
        assert steps[-1][1] == node.status
        for (_, before), (start, after) in pairwise(steps):
            assert before == start
            assert Status(after) in TRANSITIONS[Status(before)]


def test_times_of_the_history_never_go_back(sim, run_tree):
    node = run_tree({"shape": {"fail_until": 2}})
    sim.advance(minutes=10)
    times = [t.at for t in node.children.get().history]
    assert times == sorted(times)


def test_the_root_was_created_waiting(run_tree):
    assert [t.to_status for t in run_tree().workflow.root.history] == ["waiting"]


@pytest.mark.parametrize("width", [10, 1000])
def test_a_page_of_the_tree_takes_a_constant_number_of_queries(run_tree, width):
    node = run_tree(*[PARALLEL] * width)
    workflow = node.workflow
    with CaptureQueriesContext(connection) as queries:
        branch = tree(workflow, limit=100)
    assert len(queries) <= 5  # the root twice, and one for each level
    assert len(list(branch.walk())) == min(width + 2, 101)


def test_the_tree_is_in_order(run_tree):
    node = run_tree(*[{"flag": f"{n}"} for n in range(20)])
    assert [b.node.name for b in tree(node).children] == [f"{n}" for n in range(20)]


def test_the_tree_of_a_node_begins_with_it(run_tree):
    node = run_tree({"flag": "a"})
    assert tree(node).node == node
    assert tree(node.workflow).node == node.workflow.root


def test_the_tree_shows_the_row_as_it_is_now(sim):
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    assert tree(node).node.status == "complete"


def test_the_picture_shows_names_signs_modes_and_failures(run_tree):
    node = run_tree({**PARALLEL, "shape": {"fail_until": 1}}, {"flag": "payday", "delay": 99})
    assert render(node.workflow).splitlines() == [
        "tests.workflows.tree for camera, run 1",
        "└─ ◑ tests.workflows.tree waiting",
        "   ├─ ↻ tests.workflows.tree retrying [non-blocking] after 1 failed",
        "   └─ ◔ payday queued",
    ]


def test_the_picture_of_a_node_begins_with_its_own_line(run_tree):
    node = run_tree({"flag": "a"}, {"flag": "b", "barrier": True})
    assert render(node).splitlines() == [
        "✔ tests.workflows.tree complete",
        "├─ ✔ a complete",
        "└─ ✔ b complete [barrier]",
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_what_the_picture_leaves_out_is_told(run_tree, limit):
    node = run_tree({"shape": {"spawn": [{"flag": "a"}, {"flag": "b"}]}}, {"flag": "c"})
    lines = render(node, limit=limit).splitlines()
    assert any("more" in line for line in lines) == (limit < 4)


def test_a_picture_cut_short_counts_what_is_missing(run_tree):
    node = run_tree(*[{"flag": f"{n}"} for n in range(10)])
    assert render(node, limit=4).splitlines()[-1] == "└─ … 6 more"
