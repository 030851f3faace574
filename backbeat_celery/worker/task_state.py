"""Show what a handler passes to `self.update_state()` as its node's progress."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from celery.states import ALL_STATES

from backbeat_celery.runtime.current_node import running

DONE = ("done", "current", "completed", "processed", "progress", "percent", "value", "i", "n")
"""Keys that handlers use for how much is done, the usual ones first."""

TOTAL = ("total", "max", "count")
TEXT = ("message", "status", "description", "text", "step", "stage")


def report_progress(state: str | None, meta: Any) -> None:
    """Report the progress of the running node.

    Values that are not numbers become the message. As in Celery, no `meta` fails a handler.
    """
    node = running.get()
    if node is None:  # in another thread than the handler
        return
    values = meta if isinstance(meta, Mapping) else {}
    done, total = _first(values, DONE), _first(values, TOTAL)
    if total is None and "percent" in values and done == values["percent"]:
        total = 100
    node.progress(0 if done is None else done, total, _text(state, meta, values))


def _first(values: Mapping[Any, Any], names: tuple[str, ...]) -> float | None:
    for name in names:
        value = values.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        if 0 <= value <= sys.float_info.max:  # str() of a larger integer may raise
            return value
    return None


def _text(state: str | None, meta: Any, values: Mapping[Any, Any]) -> str:
    """The handler's text, with its state if that is a custom one."""
    given = next(filter(None, (_as_text(values.get(name)) for name in TEXT)), "")
    if not given and isinstance(meta, str):
        given = meta
    own = "" if state in ALL_STATES or state in (None, "PROGRESS") else str(state)
    return ": ".join(filter(None, (own, given)))


def _as_text(value: Any) -> str:
    try:
        return str(value) if value else ""
    except Exception:  # the truth value of an array raises
        return ""
