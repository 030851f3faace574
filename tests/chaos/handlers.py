"""Handlers whose whole behaviour is in their argument. Each call leaves lines in a file.

The file is appended to with one write a line, apart from the database: it tells what ran,
whatever the database says. Times in it are of the machine's monotonic clock, which no skew
of a worker's own clock touches.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from typing import Any

from celery import current_task

from backbeat_celery import current_node, node_task, signal
from tests.chaos import agent

agent.install()

LOG = "BACKBEAT_CHAOS_LOG"
CONTEXT, AMBIENT = "chaos-context", "chaos-ambient"
"""Headers: one that a signal or a spawn names, one that a publisher's surroundings add."""
QUICK = {"default_retry_delay": 0.5, "retry_backoff": False, "retry_jitter": False}
SHORT_TIMEOUT = 4
"""Seconds; a handler of kind `hang` takes longer at its first attempt."""

_log = (
    os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if LOG in os.environ else -1
)


def note(event: str) -> None:
    """Append a line about the running node."""
    if _log < 0:
        return
    node = current_node()
    headers = current_task.request.headers or {}
    line = {
        "event": event,
        "node": str(node.id),
        "attempt": node.attempt,
        "pid": os.getpid(),
        "at": time.monotonic(),
        "context": headers.get(CONTEXT),
        "ambient": headers.get(AMBIENT),
    }
    os.write(_log, (json.dumps(line) + "\n").encode())


@node_task(name="chaos.work", bind=True, max_retries=5, timeout=60, **QUICK)
def work(self: Any, shape: dict[str, Any]) -> str:
    """The common kind."""
    return _play(shape, self.request.retries)


@node_task(name="chaos.atomic", bind=True, max_retries=5, timeout=60, atomic=True, **QUICK)
def atomic(self: Any, shape: dict[str, Any]) -> str:
    """Write a row that must exist once, whatever happens."""
    from django.contrib.auth.models import Group

    node = current_node()
    Group.objects.create(name=f"{node.id}-{node.attempt}")
    return _play(shape, self.request.retries)


@node_task(name="chaos.timed", bind=True, max_retries=5, timeout=SHORT_TIMEOUT, **QUICK)
def timed(self: Any, shape: dict[str, Any]) -> str:
    """Hang beyond its timeout at the first attempt, if told so."""
    return _play(shape, self.request.retries)


@node_task(
    name="chaos.awaited",
    bind=True,
    max_retries=5,
    timeout=SHORT_TIMEOUT,
    awaits_completion=True,
    **QUICK,
)
def awaited(self: Any, shape: dict[str, Any]) -> None:
    """Begin what somebody outside reports the end of."""
    _play(shape, self.request.retries)


@node_task(name="chaos.rescue", max_retries=3, **QUICK)
def rescue(node_id: Any) -> str:
    """Called when a brittle node has failed: settle it, or leave it to the operators."""
    from backbeat_celery.exceptions import InvalidTransition
    from backbeat_celery.models import Node

    note("start")
    if str(node_id)[-1] in "048c":
        with suppress(InvalidTransition):
            Node.objects.get(pk=node_id).resolve(by="rescue")
    note("end")
    return str(node_id)


@node_task(name="chaos.brittle", bind=True, max_retries=0, timeout=60, rescue=rescue, **QUICK)
def brittle(self: Any, shape: dict[str, Any]) -> str:
    """Fail for good at the first failure, and wait for an operator."""
    return _play(shape, self.request.retries)


TASKS = {
    **{"work": work, "atomic": atomic, "timed": timed, "brittle": brittle},
    **{"awaited": awaited},
}


def _play(shape: dict[str, Any], retries: int) -> str:
    note("start")
    for child in shape["children"]:
        _spawn(child)
    if link := shape.get("link"):
        node = current_node()
        signal(call_of(link), subject=link["subject"], link=node.id, **options_of(link))
    time.sleep(shape["ms"] / 1000)
    if current_node().attempt == 1 and shape.get("slow"):
        time.sleep(shape["slow"])
    if retries < shape["fails"]:
        current_node().flag("ghost", metadata={"label": "ghost"})
        note("raise")
        raise SystemExit(1) if shape.get("exits") else RuntimeError(f"failure {retries + 1}")
    note("end")
    return str(shape["label"])


def _spawn(child: dict[str, Any]) -> None:
    if child["task"] == "flag":
        current_node().flag(child["label"], **options_of(child))
    else:
        current_node().spawn(call_of(child), **options_of(child))


def call_of(shape: dict[str, Any]) -> Any:
    """The call that a shape describes."""
    call = TASKS[shape["task"]].s(shape)
    return call.set(headers={CONTEXT: shape["label"]}) if shape.get("context") else call


def options_of(shape: dict[str, Any]) -> dict[str, Any]:
    """The options to spawn, add or signal a shape with."""
    options = {"mode": shape["mode"], "delay": shape.get("delay"), "metadata": _meta(shape)}
    return {**options, "barrier": True} if shape.get("barrier") else options


def _meta(shape: dict[str, Any]) -> dict[str, Any]:
    return {"label": shape["label"]}
