"""Tags and filters of the admin's templates.

Django imports this module in every project that renders a template, even without the admin. So
the admin is imported only when a tag is used.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template

from backbeat_celery.models import Node

register = template.Library()


@register.filter
def bb_status(node: Node) -> Any:
    """Render the status of a node with its sign."""
    outcome = node.outcome if node.outcome not in {"", "succeeded"} else ""
    from backbeat_celery.admin.markup import status_badge

    return status_badge(node.status, f"({outcome})" if outcome else "")


@register.filter
def bb_badge(status: str) -> Any:
    """Render a status with its sign."""
    from backbeat_celery.admin.markup import status_badge

    return status_badge(status)


@register.filter
def bb_outcome(outcome: str) -> Any:
    """Render an attempt's outcome with its sign."""
    from backbeat_celery.admin.markup import outcome_badge

    return outcome_badge(outcome)


@register.filter
def bb_short(name: str) -> Any:
    """Give the name of a task without its module."""
    from backbeat_celery.admin.markup import short_name

    return short_name(name)


@register.filter
def bb_ago(at: datetime | None) -> Any:
    """Format how long ago something was."""
    from backbeat_celery.admin.markup import ago

    return ago(at)


@register.filter
def bb_moment(at: datetime | None) -> Any:
    """Format a point in time, to the second."""
    from backbeat_celery.admin.markup import moment

    return moment(at)


@register.simple_tag(takes_context=True)
def bb_overview(context: Any) -> Any:
    """Give the overview's numbers that the user may see."""
    from backbeat_celery.admin.overview import overview

    return overview(context["request"])
