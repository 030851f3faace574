"""A short note why a node of the tree waits, from what the page has read.

`node.explain()` gives the full sentence, on the node's own page and above the tree.
"""

from __future__ import annotations

from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from backbeat_celery.admin.markup import ago
from backbeat_celery.admin.treerows import TreeRow
from backbeat_celery.inputs.policy import policy_for
from backbeat_celery.models import Node
from backbeat_celery.states import Container, Status


def note(
    row: TreeRow, parent: Node | None, names: dict[int, str], now: datetime
) -> SafeString | str:
    """Say why a node waits; `names` has the names of its siblings by their places."""
    node = row.node
    if node.status == Status.RETRYING:
        limit = policy_for(node).max_retries
        count = f"{node.retries}/{limit}" if limit is not None else str(node.retries)
        return format_html("{} {} {}", _("retry"), count, ago(node.fires_at, now))
    if node.status == Status.QUEUED:
        if node.fires_at and node.fires_at > now:
            return format_html("{} {}", _("due"), ago(node.fires_at, now))
        return _("waits for a worker")
    if node.status == Status.READY:
        if row.blocker is None:
            return _("waits for its turn")
        return _("waits for %s") % names.get(row.blocker, _("sibling %d") % (row.blocker + 1))
    if node.status == Status.PENDING and parent is not None and parent.is_container:
        return _("waits for the %s to begin") % Container(parent.container).label
    words = {
        Status.PENDING: _("starts when its parent is accepted"),
        Status.PAUSED: _("the workflow is paused"),
        Status.FAILED: _("waits for an operator"),
    }
    return words.get(Status(node.status), "")
