"""The tree page while things happen: it follows, and nobody loses their place."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from backbeat_celery import current_node, signal
from backbeat_celery.models import Node
from tests import workflows


def rows(look):
    return look.all("#bb-tree tbody tr")


@pytest.fixture
def tree(backbeat, script):
    """Two signals: one with three children, one with a hundred."""

    def work(task):
        for n in range(task.request.kwargs.get("n", 3)):
            current_node().spawn(workflows.done.s(n), mode="non_blocking")

    script(work)
    script(lambda task: work_many(), "many")

    def work_many():
        for n in range(120):
            current_node().spawn(workflows.done.s(n), mode="non_blocking")

    first = signal(workflows.scripted.s(), subject="camera", name="order")
    signal(workflows.scripted.s("many"), subject="camera", name="order")
    signal(workflows.stubborn.s(), subject="camera", name="order")
    backbeat.run()
    return first.workflow


def test_unchanged_page_is_not_sent_again(look, tree):
    look.at_tree(tree)
    url = f"{look.address}/admin/backbeat_celery/workflow/{tree.pk}/live/"
    get = """
        const done = arguments[arguments.length - 1], known = arguments[1];
        fetch(arguments[0], {headers: known ? {'If-None-Match': known} : {}, cache: 'no-store'})
            .then(r => done([r.status, r.headers.get('ETag')]))
    """
    status, etag = look.driver.execute_async_script(get, url, "")
    assert status == 200
    assert look.driver.execute_async_script(get, url, etag)[0] == 304
    Node.objects.filter(workflow=tree, status="retrying").get().cancel()
    assert look.driver.execute_async_script(get, url, etag)[0] == 200


def test_folded_branch_stays_folded_and_the_focus_where_it_was(look, tree):
    look.at_tree(tree)
    first = Node.objects.get(workflow=tree, name="tests.workflows.scripted", seq=0)
    count = len(rows(look))
    look.click(f"#t-{first.pk}")
    look.wait(lambda: len(rows(look)) == count - 3)
    assert look.focused == f"t-{first.pk}"
    assert f"fold={first.pk}" in look.driver.current_url
    stubborn = Node.objects.get(workflow=tree, status="retrying")
    stubborn.cancel()
    look.wait(lambda: "canceled" in look.text(f"#node-{stubborn.pk}"))
    assert len(rows(look)) == count - 3
    assert look.focused == f"t-{first.pk}"
    look.driver.refresh()
    assert len(rows(look)) == count - 3


def test_wide_branch_is_paged(look, tree):
    look.at_tree(tree)
    look.wait(lambda: "Show later children (70)" in look.text("#bb-tree"))
    look.click(".bb-more a")
    look.wait(lambda: "Show earlier children (50)" in look.text("#bb-tree"))
    assert "Show later children (20)" in look.text("#bb-tree")


def test_tree_is_walked_by_arrow_keys(look, tree):
    look.at_tree(tree)
    first, second = Node.objects.filter(parent=tree.pk).order_by("seq")[:2]
    look.run("arguments[0].focus()", rows(look)[0])
    assert look.focused == f"node-{first.pk}"
    look.press(Keys.ARROW_RIGHT)
    child = first.children.order_by("seq").first()
    assert look.focused == f"node-{child.pk}"
    look.press(Keys.ARROW_LEFT)
    assert look.focused == f"node-{first.pk}"
    look.press(Keys.ARROW_LEFT)
    look.wait(lambda: look.one(f"#node-{first.pk}").get_attribute("aria-expanded") == "false")
    assert look.focused == f"node-{first.pk}"
    look.press(Keys.ARROW_DOWN)
    assert look.focused == f"node-{second.pk}"
    look.press(Keys.ARROW_UP)
    look.press(Keys.ARROW_RIGHT)
    look.wait(lambda: look.one(f"#node-{first.pk}").get_attribute("aria-expanded") == "true")
    look.press(Keys.END)
    assert look.focused == rows(look)[-1].get_attribute("id")
    look.press(Keys.HOME)
    look.press(Keys.ENTER)
    look.wait(lambda: f"/node/{first.pk}/change/" in look.driver.current_url)


def test_grid_is_one_stop_of_the_tab_key(look, tree):
    look.at_tree(tree)
    stops = look.run(
        "return document.querySelectorAll('#bb-tree tbody tr[tabindex=\"0\"]').length"
    )
    assert stops == 1


def test_works_without_scripts(look, tree, driver):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look.at_tree(tree)
        first = Node.objects.get(workflow=tree, seq=0, parent=tree.pk)
        count = len(rows(look))
        look.click(f"#t-{first.pk}")
        look.wait(lambda: len(rows(look)) == count - 3)
        look.click(".bb-more a")
        look.wait(lambda: "Show earlier children (50)" in look.text("#bb-tree"))
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def requests(look):
    names = look.run("return performance.getEntriesByType('resource').map(e => e.name)")
    return sum("/live/" in name for name in names)


def test_hidden_tab_does_not_ask(look, tree):
    look.at_tree(tree)
    look.wait(lambda: requests(look) > 0)
    hide = (
        "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    look.run(hide, True)
    look.run("performance.clearResourceTimings(); window.hidden_at = performance.now()")
    look.wait(lambda: look.run("return performance.now() - window.hidden_at > 4500"))
    assert requests(look) <= 1  # one may have been under way
    look.run(hide, False)
    look.wait(lambda: requests(look) > 1)


def test_end_of_the_session_is_told(look, tree, driver):
    look.at_tree(tree)
    driver.delete_all_cookies()
    look.wait(lambda: "Your session has ended" in look.text("#bb-notice"))
    assert look.one("#bb-notice a").get_attribute("href") == driver.current_url
    look.complaints()


def test_lost_server_is_told_and_found_again(look, tree, driver):
    look.at_tree(tree)
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **offline})
    look.wait(lambda: "does not answer" in look.text("#bb-notice"), 30)
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **offline})
    look.wait(lambda: not look.one("#bb-notice").is_displayed(), 40)
    look._seen = [text for text in look.complaints() if "ERR_INTERNET_DISCONNECTED" not in text]
