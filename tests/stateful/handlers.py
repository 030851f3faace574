"""Handlers whose whole behaviour is in their argument, so that a model can predict it."""

from __future__ import annotations

from typing import Any

from backbeat_celery import current_node, node_task

OPTIONS = {"default_retry_delay": 10, "retry_backoff": False, "retry_jitter": False}
MAX_RETRIES = {"patient": 2, "brittle": 0}
GHOST = "ghost"
"""The label of children spawned by failing attempts: none may ever be seen."""


@node_task(name="stateful.patient", bind=True, max_retries=2, **OPTIONS)
def patient(self: Any, shape: dict[str, Any]) -> str:
    return _play(shape, self.request.retries)


@node_task(name="stateful.brittle", bind=True, max_retries=0, **OPTIONS)
def brittle(self: Any, shape: dict[str, Any]) -> str:
    return _play(shape, self.request.retries)


TASKS = {"patient": patient, "brittle": brittle}


def _play(shape: dict[str, Any], retries: int) -> str:
    node = current_node()
    for child in shape["children"]:
        if child["kind"] == "flag":
            node.flag(child["label"], **options_of(child))
        else:
            node.spawn(signature_of(child), **options_of(child))
    if retries < shape["failures"]:
        node.flag(GHOST, metadata={"label": GHOST})
        raise RuntimeError(f"failure {retries + 1} of {shape['failures']}")
    return shape["label"]


def signature_of(shape: dict[str, Any]) -> Any:
    """The call that a shape describes."""
    return TASKS[shape["kind"]].s(shape)


def options_of(shape: dict[str, Any]) -> dict[str, Any]:
    """The options to spawn, add or signal a shape with."""
    names = ("mode", "delay", "key") + (("barrier",) if shape["barrier"] else ())
    return {**{name: shape[name] for name in names}, "metadata": {"label": shape["label"]}}
