"""The call sites with workflows: a view that starts, and one that a page polls."""

from __future__ import annotations

from typing import Any

from celery import chain, chord

from backbeat_celery import NodeResult, signal
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
    result = NodeResult(signal(steps, subject=f"upload {upload}").id)
    weigh = result.parent
    return {
        "publish": result.id,
        "weigh": weigh.id,
        "scans": [scan.id for scan in weigh.parent.results],
    }


def progress(ids: dict[str, Any]) -> dict[str, Any]:
    """What the page shows."""
    names = ["publish", "weigh"]
    results = {name: NodeResult(ids[name]) for name in names}
    scans = [NodeResult(id) for id in ids["scans"]]
    return {
        "scanned": sum(scan.successful() for scan in scans),
        "states": [results[name].state for name in names],
        "is_done": results["publish"].ready(),
        "error": repr(results["publish"].result) if results["publish"].failed() else "",
        "findings": results["publish"].get() if results["publish"].successful() else None,
    }
