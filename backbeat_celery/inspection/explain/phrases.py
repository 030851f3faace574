"""Phrases of explanations: times, people, errors and names."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from backbeat_celery.models import Node, Workflow
from backbeat_celery.runtime.text import shorten

LONGEST = 200
"""Characters of an error that a sentence has room for."""


def moment(time: datetime, now: datetime | None = None) -> str:
    """A time, and how far from now it is if that is known and to come."""
    text = f"{timezone.localtime(time):%Y-%m-%d %H:%M:%S %Z}"
    if now is None or time <= now:
        return text
    return f"{text} (in {span((time - now).total_seconds())})"


def span(seconds: float) -> str:
    """A duration in its largest sensible unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def by(actor: str, reason: str) -> str:
    """Who did something, and why, as far as it was said."""
    return (f" by {actor}" if actor else "") + (f" ({short(reason)})" if reason else "")


def short(text: str | None) -> str:
    """The first line of a text, cut to what a sentence has room for, without its full stop."""
    line = (text or "").strip().split("\n")[0].rstrip(".")
    return shorten(line, LONGEST)


def named(node: Node) -> str:
    """A node's name with its id, for whoever has to act on it."""
    return f"{node.name} {node.pk}"


def times(count: int, what: str) -> str:
    """A number with its noun."""
    irregular = {"child": "children"}
    return f"{count} {what if count == 1 else irregular.get(what, what + 's')}"


def paused(workflow: Workflow) -> str:
    """Since when a workflow is paused, by whom and why."""
    since = f" since {moment(workflow.paused_at)}" if workflow.paused_at else ""
    return f"paused{since}{by(workflow.paused_by, workflow.pause_reason)}"
