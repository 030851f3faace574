"""Each action, as a person does it: press the button, read what it touches, say why, confirm."""

from __future__ import annotations

import json

import pytest
from celery import chord
from selenium.webdriver.support.ui import Select

from backbeat_celery import current_node, signal
from backbeat_celery.admin.actions import NODE_ACTIONS, WORKFLOW_ACTIONS
from backbeat_celery.models import Node, Workflow
from tests import workflows


@pytest.fixture
def failed(backbeat, script):
    def work(task):
        current_node().spawn(workflows.fatal.s())
        current_node().spawn(workflows.done.s())

    script(work)
    signal(workflows.scripted.s(), subject="camera", name="order")
    backbeat.run()
    return Node.objects.get(name="tests.workflows.fatal")


def press(look, label):
    buttons = {button.text.lower(): button for button in look.all(".object-tools a")}
    look.follow(buttons[label.lower()])


def confirm(look, reason="because"):
    look.one("#id_reason").send_keys(reason)
    look.follow(".submit-row input[type=submit]")
    return look.text(".messagelist")


AFTER = {
    "retry": "queued",
    "edit_arguments": "queued",
    "resolve": "complete",
    "shutdown": "complete",
    "reset": "failed",
    "cancel": "canceled",
}


@pytest.mark.parametrize("verb", NODE_ACTIONS)
def test_on_a_node(look, failed, verb):
    look.at_node(failed)
    press(look, str(NODE_ACTIONS[verb].label))
    told = confirm(look)
    assert told.startswith(str(NODE_ACTIONS[verb].done))
    failed.refresh_from_db()
    assert failed.status == AFTER[verb]
    assert "because" in look.text() or verb == "reset"


@pytest.mark.parametrize("verb", WORKFLOW_ACTIONS)
def test_on_a_workflow(look, failed, backbeat, verb):
    workflow = failed.workflow
    if verb == "resume":
        workflow.pause()
    if verb == "delete":
        workflow.cancel()
        workflow.close()
        backbeat.run()
    look.at_tree(workflow)
    press(look, str(WORKFLOW_ACTIONS[verb].label))
    if verb == "signal":
        Select(look.one("#id_task")).select_by_visible_text("tests.workflows.done")
        look.one("#id_args").send_keys("[42]")
    told = confirm(look)
    assert told.startswith(str(WORKFLOW_ACTIONS[verb].done))
    if verb == "delete":
        assert not Workflow.objects.exists()
    elif verb == "signal":
        assert Node.objects.filter(workflow=workflow, args=[42]).exists()


def test_a_canvas_is_shown_before_it_is_sent(look, failed):
    workflow = failed.workflow
    look.at_tree(workflow)
    press(look, "Send a signal")
    canvas = chord([workflows.done.s(1), workflows.done.s(2)], workflows.done.s())
    look.one("#id_canvas").send_keys(json.dumps(canvas))
    look.follow(".submit-row input[type=submit]")
    assert "tests.workflows.done [body]" in look.text("[aria-labelledby=bb-outline]")
    assert look.violations() == []
    assert not Node.objects.filter(container="chord").exists()
    assert confirm(look).startswith("Signalled")
    assert Node.objects.filter(workflow=workflow, container="chord").exists()


def test_on_a_selection(look, failed):
    look.at("backbeat_celery/node/?status=failed")
    look.click("#result_list .action-select")
    Select(look.one("select[name=action]")).select_by_visible_text("Retry selected nodes")
    look.follow(".actions button[type=submit]")
    assert "It acts on 1 object" in look.text()
    assert confirm(look).startswith("Retried")
    failed.refresh_from_db()
    assert failed.status == "queued"


def test_on_all_that_match(look, backbeat, monkeypatch):
    monkeypatch.setattr("backbeat_celery.admin.nodes.NodeAdmin.list_per_page", 2)
    for number in range(5):
        signal(workflows.fatal.s(), subject=f"camera {number}")
    backbeat.run()
    look.at("backbeat_celery/node/?status=failed")
    look.click("#action-toggle")
    look.click(".actions .question a")
    Select(look.one("select[name=action]")).select_by_visible_text("Cancel selected nodes")
    look.follow(".actions button[type=submit]")
    assert "It acts on 5 objects" in look.text()
    assert confirm(look) == "Canceled: 5 nodes."


def test_back_changes_nothing(look, failed):
    look.at_node(failed)
    press(look, "Cancel")
    look.follow(".submit-row .closelink")
    assert f"/node/{failed.pk}/change/" in look.driver.current_url
    failed.refresh_from_db()
    assert failed.status == "failed"
