"""The commands that print trees and sweep."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from backbeat_celery import signal
from backbeat_celery.management.commands import backbeat_sweep, backbeat_tree
from backbeat_celery.models import Node, Workflow
from tests import workflows

LATE = {"delay": 60}


class Terminal(StringIO):
    def isatty(self):
        return True


def tree(*arguments, out=None):
    out = out or StringIO()
    call_command("backbeat_tree", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def camera(run_tree):
    return run_tree({"shape": {"spawn": [LATE]}}, {"flag": "b"})


@pytest.fixture
def lens(sim):
    node = signal(workflows.done.s(), subject="lens", name="optics", delay=60)
    sim.run()
    return node


def test_all_open_workflows_are_printed_the_latest_first(camera, lens):
    text = tree()
    assert text.index("optics for lens, run 1") < text.index("tests.workflows.tree for camera")
    assert "└─ ○ b ready" in text
    assert "\x1b[" not in text


@pytest.mark.parametrize("arguments", [["--subject=lens"], ["--name=optics"], ["--workflows=1"]])
def test_workflows_are_filtered(camera, lens, arguments):
    text = tree(*arguments)
    assert "optics for lens" in text
    assert "camera" not in text


def test_nodes_are_filtered_by_status_and_task(sim, camera, lens):
    text = tree("--status=ready")
    assert "b ready" in text
    assert "queued" not in text
    assert "lens" not in text
    assert tree("--status=failed") == "No workflow matches.\n"
    assert "b ready" not in tree("--task=tests.workflows.tree")


def test_a_workflow_and_a_node_are_found_by_their_ids(camera, lens):
    text = tree(str(lens.workflow_id), str(camera.pk))
    assert text.startswith("optics for lens, run 1\n")
    assert "\n\n◑ tests.workflows.tree waiting" in text


def test_finished_workflows_are_printed_when_asked(sim, lens):
    lens.cancel()
    lens.workflow.close()
    sim.run()
    assert tree() == "No workflow matches.\n"
    assert "optics for lens" in tree("--all")


def test_limits_and_explanations(camera):
    text = tree("--limit=2", "--explain")
    assert "… 1 more" in text
    assert "is open and waits for its signal" in text


def test_json_has_workflows_and_nodes(camera, lens):
    data = json.loads(tree("--json", "--explain"))
    assert [item["subject"] for item in data] == ["lens", "camera"]
    assert data[1]["root"]["children"][0]["children"][1]["name"] == "b"
    assert data[0]["explanation"].endswith(".")
    (node,) = json.loads(tree("--json", str(lens.pk)))
    assert node["status"] == "queued"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "is not the id"),
        (["0" * 32], "has the id"),
        (["--json", "--watch"], "leave out --json"),
        (["--database=nowhere"], "DATABASES has no 'nowhere'"),
        (["--status=odd"], "invalid choice"),
        (["--limit=0"], "--limit"),
        (["--watch=0"], "--watch"),
    ],
)
def test_what_cannot_be_printed_is_refused_with_a_reason(db, arguments, message):
    with pytest.raises(CommandError, match=message):
        tree(*arguments)


def test_a_terminal_gets_colors(camera, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    Node.objects.filter(name="b").update(status="failed")
    assert "\x1b[31;1m" in tree(out=Terminal())
    assert "\x1b[31;1m" not in tree("--no-color", out=Terminal())
    assert "\x1b[31;1m" in tree("--force-color")


@pytest.mark.parametrize("out", [StringIO, Terminal])
def test_a_watch_draws_again_until_all_is_finished(sim, lens, monkeypatch, out):
    waits = []

    def finish(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            lens.cancel()

    monkeypatch.setattr(backbeat_tree.time, "sleep", finish)
    text = tree(str(lens.pk), "--watch=0.5", out=out())
    assert waits == [0.5, 0.5]
    assert text.count("queued") == 2
    assert text.count("canceled") == 1
    assert text.count("\x1b[2J") == (3 if out is Terminal else 0)


def test_a_watch_is_ended_by_an_interrupt(lens, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(backbeat_tree.time, "sleep", interrupt)
    assert "optics for lens" in tree("--watch")


def sweep(*arguments):
    out = StringIO()
    call_command("backbeat_sweep", *arguments, stdout=out)
    return out.getvalue()


def test_a_sweep_tells_what_it_mended(sim):
    node = signal(workflows.done.s(), subject="camera")
    sim.lose_messages()
    Node.objects.filter(pk=node.pk).update(publish_at=sim.now)
    assert sweep() == "Repaired: published 1.\n"
    assert sweep("--passes=2") == "Nothing to repair.\n" * 2
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_sweep_goes_on_until_it_is_interrupted(sim, monkeypatch):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(backbeat_sweep.time, "sleep", wait)
    assert sweep("--loop") == "Nothing to repair.\n" * 3 + "Stopped.\n"
    assert waits == [5, 5, 5]


@pytest.mark.django_db(transaction=True)
def test_no_session_of_a_sweep_outlives_its_pass(monkeypatch):
    sessions = []

    def wait(_seconds):
        sessions.append(connection.connection)
        raise KeyboardInterrupt

    monkeypatch.setattr(backbeat_sweep.time, "sleep", wait)
    assert sweep("--loop") == "Nothing to repair.\nStopped.\n"
    assert sessions == [None]


def test_a_sweep_refuses_passes_that_are_none(db):
    with pytest.raises(CommandError, match="--passes"):
        sweep("--passes=0")


def test_an_empty_database_has_nothing_to_show(db):
    assert not Workflow.objects.exists()
    assert tree() == "No workflow matches.\n"
