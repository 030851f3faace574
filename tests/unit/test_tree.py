"""History, attempts, and the picture of a tree."""

from __future__ import annotations

import json
import sys
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backbeat_celery import signal
from backbeat_celery.inspection.tree import render, tree
from backbeat_celery.models import Node
from backbeat_celery.states import TRANSITIONS, Status
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


@pytest.mark.parametrize("width", [10, 150])
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


@timezone.override("UTC")
def test_the_picture_shows_names_signs_modes_failures_and_times(sim, run_tree):
    node = run_tree({**PARALLEL, "shape": {"fail_until": 1}}, {"flag": "payday", "delay": 99})
    Node.objects.filter(fires_at__isnull=False).update(fires_at="2026-11-24T06:30:01Z")
    assert render(node.workflow).splitlines() == [
        "tests.workflows.tree for camera, run 1",
        "└─ ◑ tests.workflows.tree waiting",
        "   ├─ ↻ tests.workflows.tree retrying [non-blocking] after 1 failed"
        ", due 2026-11-24 06:30:01 UTC",
        "   └─ ◔ payday queued, due 2026-11-24 06:30:01 UTC",
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


def test_the_picture_shows_what_is_special_about_a_node(sim, run_tree):
    node = run_tree({"flag": "a", "delay": 60})
    child = Node.objects.filter(name="a")
    child.update(rescue=True, remote=True, mode="fire_and_forget", fires_at=None)
    assert render(node).splitlines()[-1] == "└─ ◔ a queued [rescue] [remote]"
    said = {"done": 3, "total": 10, "message": "scanning"}
    child.update(rescue=False, remote=False, mode="blocking", status="running", progress=said)
    assert render(node).splitlines()[-1] == "└─ ▶ a running, 3 of 10 done scanning"
    child.update(progress={"done": 3}, status="running")
    assert render(node).splitlines()[-1] == "└─ ▶ a running, 3 done"
    child.update(status="failed", error="ValueError('x')\nsecond line")
    assert render(node).splitlines()[-1] == "└─ ✖ a failed: ValueError('x')"
    child.update(status="complete", outcome="resolved")
    assert render(node).splitlines()[-1] == "└─ ✔ a resolved"


def test_the_title_tells_a_pause_and_a_closing(sim):
    workflow = signal(workflows.done.s(), subject="camera", delay=9).workflow
    workflow.pause()
    workflow.close()
    assert render(workflow).splitlines()[0].endswith("run 1 [paused] [closed]")


def test_methods_draw_plainly_where_there_is_no_terminal(run_tree):
    node = run_tree({"flag": "a"})
    assert node.render() == render(node)
    assert node.workflow.render() == render(node.workflow)
    assert "\x1b[" in node.render(color=True)


@pytest.mark.parametrize(
    ("is_terminal", "variables", "colored"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_a_terminal_gets_colors_unless_it_asks_for_none(
    run_tree, monkeypatch, is_terminal, variables, colored
):
    node = run_tree({"flag": "a"})
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    assert ("\x1b[" in node.render()) is colored


def test_a_filtered_tree_has_what_matches_and_what_is_above(run_tree):
    late = {"delay": 60}
    node = run_tree({"shape": {"spawn": [{"flag": "a"}, late]}}, {"flag": "b"}, {"flag": "c"})
    top = node.workflow.tree(statuses=["queued"])
    assert [branch.node.status for branch in top.walk()] == ["waiting"] * 3 + ["queued"]
    assert [b.node.task for b in node.tree(task=workflows.tree.name).walk()][1:] == [
        workflows.tree.name
    ] * 2
    below = node.children.get(name="b")
    assert next(below.tree(statuses=["queued"]).walk()).children == []


def test_a_filtered_tree_that_is_cut_says_so(run_tree):
    node = run_tree(*[{"flag": f"{n}"} for n in range(10)])
    assert node.render(statuses=["complete"], limit=4).splitlines()[-1] == "└─ … 6 more"


def test_a_tree_is_plain_data(run_tree):
    node = run_tree({"flag": "a"}, {"delay": 60})
    data = json.loads(json.dumps(node.tree().as_dict()))
    assert data["id"] == str(node.pk)
    assert [child["name"] for child in data["children"]] == ["a", workflows.tree.name]
    assert data["children"][1]["status"] == "queued"
    assert data["children"][1]["fires_at"].startswith("20")


def test_a_deep_tree_is_drawn_without_recursion(run_tree):
    node = run_tree()
    rows, parent = [], node
    deep = sys.getrecursionlimit() + 50
    for depth in range(deep):
        parent = Node(
            workflow_id=node.workflow_id,
            parent=parent,
            seq=0,
            stage=0,
            name=f"deep {depth}",
            mode="fire_and_forget",
            status="complete",
            created_at=node.created_at,
        )
        rows.append(parent)
    Node.objects.bulk_create(rows)
    assert len(node.render(limit=2 * deep).splitlines()) == deep + 1
    assert len(list(node.tree(limit=2 * deep).walk())) == deep + 1
