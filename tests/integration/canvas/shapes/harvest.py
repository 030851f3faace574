"""Shape 8: a chord whose members and body expire, with an error callback on the body."""

from __future__ import annotations

from typing import Any

from celery import chord, shared_task
from celery.result import AsyncResult

from tests.integration.canvas import world


class Unreachable(Exception):
    """The other side does not answer."""


@shared_task(name="harvest.fetch")
def fetch(resource: int, session: int, execution: str) -> int:
    world.note("fetch", resource, session, execution)
    if resource in world.get("unreachable", []):
        raise Unreachable(resource)
    return resource


@shared_task(name="harvest.finish")
def finish(session: int, execution: str) -> str:
    world.note("finish", session, execution)
    return f"session {session} is done"


@shared_task(bind=True, name="harvest.fail")
def fail(self: Any, task_id: str, *args: Any, **kwargs: Any) -> None:
    result = AsyncResult(task_id)
    has_trace = bool(result.traceback)
    world.note("fail", task_id, result.state, str(result.result), has_trace, list(args), kwargs)


def harvested(resources: list[int], session: int, expires: int = 60) -> Any:
    body = finish.signature((session, "now"), immutable=True)
    body = body.on_error(fail.signature(kwargs={"session": session})).set(expires=expires)
    options = {"expires": expires, "queue": "small", "time_limit": 60}
    members = [fetch.signature((each, session, "now")).set(**options) for each in resources]
    return chord(members, body=body)
