"""Phrases of explanations: times, actors, errors and names."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone

from backbeat_celery.models import Node, Workflow
from backbeat_celery.runtime.text import shorten

LONGEST = 200
"""Characters of an error in a sentence."""


def moment(time: datetime, now: datetime | None = None) -> str:
    """Format a time and, if it is after `now`, how far away it is."""
    text = f"{timezone.localtime(time):%Y-%m-%d %H:%M:%S %Z}"
    if now is None or time <= now:
        return text
    return f"{text} (in {span((time - now).total_seconds())})"


def span(seconds: float) -> str:
    """Format a duration in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def by(actor: str, reason: str) -> str:
    """Give actor and reason, if they are known."""
    return (f" by {actor}" if actor else "") + (f" ({short(reason)})" if reason else "")


def short(text: str | None) -> str:
    """Give the first line of a text, shortened, without its full stop."""
    line = (text or "").strip().split("\n")[0].rstrip(".")
    return shorten(line, LONGEST)


def named(node: Node) -> str:
    """Give a node's name with its id."""
    return f"{node.name} {node.pk}"


def times(count: int, what: str) -> str:
    """Give a number with its noun."""
    irregular = {"child": "children"}
    return f"{count} {what if count == 1 else irregular.get(what, what + 's')}"


def paused(workflow: Workflow) -> str:
    """Say since when a workflow is paused, with actor and reason."""
    since = f" since {moment(workflow.paused_at)}" if workflow.paused_at else ""
    return f"paused{since}{by(workflow.paused_by, workflow.pause_reason)}"
