"""The tree page beside a real worker: it follows without being loaded anew."""

from __future__ import annotations

from backbeat_celery import signal
from tests.real import conftest as real
from tests.real import handlers

# The fixtures of real workers, for this module alone: each test of them talks to a broker.
empty_queue, fast_settings = real.empty_queue, real.fast_settings
log, start_worker = real.log, real.start_worker


def rows(look):
    return look.all("#bb-tree tbody tr")


def statuses(look):
    return [cell.text for cell in look.all("#bb-tree tbody td.bb-c-status")]


def test_page_follows_a_real_worker(look, start_worker):
    worker = start_worker()
    # Each child runs for longer than the page waits between two looks.
    node = signal(handlers.fan_out.s(6, 4), subject="camera", name="order")
    look.at_tree(node.workflow)
    look.run("window.same = true")
    worker.wait_ready()
    look.wait(lambda: any("running" in text for text in statuses(look)), 60)
    look.wait(lambda: len(rows(look)) == 8, 60)
    look.run("arguments[0].focus()", look.one(f"#node-{node.pk}"))
    look.wait(lambda: "8 of 8 done" in look.text(".bb-state"), 60)
    assert look.run("return window.same"), "the page was loaded anew"
    assert look.focused == f"node-{node.pk}"
    assert all("complete" in text for text in statuses(look))
    assert look.all(f"#bb-tree svg[aria-label*='on {worker.name}@']")
