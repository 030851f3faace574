"""The call sites with Celery alone: a view that starts, and one that a page polls."""

from __future__ import annotations

from typing import Any

from celery import chain, chord
from celery.result import AsyncResult

from tests.integration.canvas.migrations.checking import tasks


def start(upload: int) -> dict[str, Any]:
    """Start the checks; the ids are what the page gets."""
    scans = [task.s(upload) for task in (tasks.virus, tasks.licence, tasks.size)]
    steps = chain(
        tasks.receive.si(upload),
        tasks.unpack.s(upload),
        chord(scans, tasks.weigh.s(upload)),
        tasks.publish.s(upload),
    )
    steps.link_error(tasks.tell_owner.s(upload))
    result = steps.delay()
    weigh = result.parent
    return {
        "publish": result.id,
        "weigh": weigh.id,
        "scans": [scan.id for scan in weigh.parent.results],
    }


def progress(ids: dict[str, Any]) -> dict[str, Any]:
    """What the page shows."""
    names = ["publish", "weigh"]
    results = {name: AsyncResult(ids[name]) for name in names}
    scans = [AsyncResult(id) for id in ids["scans"]]
    return {
        "scanned": sum(scan.successful() for scan in scans),
        "states": [results[name].state for name in names],
        "is_done": results["publish"].ready(),
        "error": repr(results["publish"].result) if results["publish"].failed() else "",
        "findings": results["publish"].get() if results["publish"].successful() else None,
    }
