"""Pages in a real browser: they obey a strict policy, fit a phone, and are read without eyes."""

from __future__ import annotations

import pytest

from backbeat_celery import current_node, signal
from backbeat_celery.models import Node
from tests import workflows
from tests.browser.chromium import PHONE, prefer, resize

PAGES = ("overview", "workflows", "nodes", "tree", "node", "ask", "form")


@pytest.fixture
def failed(backbeat, script):
    """A tree with nodes in most statuses, one of which has failed."""

    def work(task):
        node = current_node()
        node.spawn(workflows.done.s(), mode="non_blocking")
        node.spawn(workflows.flaky.s(1), mode="non_blocking")
        node.spawn(workflows.fatal.s())
        node.spawn(workflows.done.s("a rather long argument"))

    script(work)
    signal(workflows.scripted.s(), subject="camera", name="order", metadata={"customer": 7})
    signal(workflows.done.s(), subject="camera", name="order")
    backbeat.run()
    return Node.objects.get(name="tests.workflows.fatal")


@pytest.fixture
def visit(look, failed):
    """Go to one of the pages by its name."""

    def go(name):
        node, workflow = f"node/{failed.pk}", f"workflow/{failed.workflow_id}"
        paths = {
            "overview": "",
            "workflows": "workflow/",
            "nodes": "node/?open=all",
            "tree": f"{workflow}/change/",
            "node": f"{node}/change/",
            "ask": f"{node}/act/shutdown/",
            "form": f"{workflow}/act/signal/",
        }
        return look.at(f"backbeat_celery/{paths[name]}")

    return go


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible_in_both_schemes(visit, driver, name, scheme):
    prefer(driver, scheme)
    look = visit(name)
    background = look.run("return getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[scheme]
    assert look.violations() == []


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(visit, driver, name):
    resize(driver, PHONE)
    look = visit(name)
    assert look.run("return document.documentElement.scrollWidth") <= PHONE[0]
    assert look.violations() == []


def test_own_switch_of_the_admin_turns_our_colours(visit):
    look = visit("tree")
    colour = "return getComputedStyle(document.querySelector('.bb-failed')).backgroundColor"
    light = look.run(colour)
    look.run("document.documentElement.dataset.theme = 'dark'")
    assert look.run(colour) != light


def test_policy_is_in_force(look):
    """A control: what our pages do not do is really refused and really seen."""
    look.at("backbeat_celery/")
    look.run("document.body.setAttribute('style', 'color: red')")
    look.run("const s = document.createElement('script'); s.text = '1'; document.body.append(s)")
    seen = look.complaints()
    assert any("Content Security Policy" in text for text in seen)
    look._seen.clear()


def test_list_leads_to_the_tree_and_the_tree_to_a_node(visit):
    look = visit("workflows")
    look.follow("#result_list tbody th a")
    look.wait(lambda: look.text("h1") == "order")
    assert look.text(".bb-holding").count("fatal") >= 1
    look.follow(".bb-holding a")
    look.wait(lambda: "no use to try again" in look.text())


def test_list_is_filtered_and_searched(visit):
    look = visit("workflows")
    look.follow("a[href='?failures=failed']")
    assert len(look.all("#result_list tbody tr")) == 1
    look.one("#searchbar").send_keys("lens\n")
    look.wait(lambda: "q=lens" in look.driver.current_url)
    look.wait(lambda: look.all("#result_list tbody tr") == [])


def test_traceback_can_be_copied(visit):
    look = visit("node")
    look.click("details summary")
    button = look.one("details .bb-copy")
    button.click()
    look.wait(lambda: button.text == "Copied")
