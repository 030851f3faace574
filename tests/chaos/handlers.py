"""Handlers whose whole behaviour is in their argument. Each call leaves lines in a file."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from backbeat_celery import current_node, node_task, signal
from tests.chaos import agent, canvases
from tests.chaos.notes import CONTEXT, note
from tests.chaos.profiles import QUICK
from tests.chaos.shapes import CANVAS

agent.install()

SHORT_TIMEOUT = 4
"""Seconds; a handler of kind `hang` takes longer at its first attempt."""


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
    """The call that a shape describes, or the canvas."""
    if shape["task"] == CANVAS:
        return canvases.signature_of(shape["canvas"])
    call = TASKS[shape["task"]].s(shape)
    return call.set(headers={CONTEXT: shape["label"]}) if shape.get("context") else call


def options_of(shape: dict[str, Any]) -> dict[str, Any]:
    """The options to spawn, add or signal a shape with."""
    options = {"mode": shape["mode"], "delay": shape.get("delay"), "metadata": _meta(shape)}
    return {**options, "barrier": True} if shape.get("barrier") else options


def _meta(shape: dict[str, Any]) -> dict[str, Any]:
    return {"label": shape["label"]}
