"""A feed is imported: it is fetched, fanned out row by row, and summed up."""

from __future__ import annotations

from typing import Any

from celery import group, shared_task

from tests.integration.canvas import world


class Away(Exception):
    """The other side does not answer."""


def times(name: str) -> int:
    """Count how often something was tried."""
    count = int(world.get(name, 0)) + 1
    world.put(name, count)
    return count


@shared_task(bind=True, name="importing.fetch", max_retries=3)
def fetch(self: Any, feed: str) -> list[int]:
    tries = times("fetched")
    world.note("fetch", self.request.retries)
    if tries <= world.get("away", 0):
        raise self.retry(countdown=1)
    return list(range(world.get("rows", 4)))


@shared_task(bind=True, name="importing.fan_out")
def fan_out(self: Any, rows: list[int], feed: str) -> None:
    raise self.replace(group(load.s(row, feed) for row in rows))


@shared_task(bind=True, name="importing.load", max_retries=2)
def load(self: Any, row: int, feed: str) -> dict[str, Any]:
    tries = times(f"loaded-{row}")
    world.note("load", row, self.request.retries)
    if tries <= world.get("busy", {}).get(str(row), 0):
        raise self.retry(exc=Away(feed, row), countdown=1)
    return {"row": row, "tries": tries}


@shared_task(name="importing.sum_up")
def sum_up(loaded: list[dict[str, Any]], feed: str) -> str:
    world.note("sum_up", loaded, feed)
    return f"{len(loaded)} rows of {feed}"
