"""The way from a node up to its workflow, in one statement however deep the node is."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backbeat_celery.models import Node
from backbeat_celery.models.lineage import LEVELS, lineage

FIRST, LAST = 3, 20
"""Nodes that are shown of a long way, at its top and at its end."""


def trail(node: Node) -> list[Node]:
    """The nodes above one, the topmost first, without the root.

    Of a long way the middle is left out: the node after the gap has in `left_out` a text that
    says how many levels.
    """
    rows = lineage([node.pk], node.alias, levels=LEVELS)
    way: list[Node] = []
    above = node.parent_id
    while above in rows:
        way.insert(0, rows[above])
        above = rows[above].parent_id
    is_whole = above is None
    way = [row for row in way if not row.is_root]
    if is_whole and len(way) <= FIRST + LAST:
        return way
    first, last = way[: FIRST if is_whole else 0], way[-LAST:]
    count = len(way) - len(first) - len(last)
    text = ngettext("%d level", "%d levels", count) if is_whole else _("more than %d levels")
    vars(last[0])["left_out"] = text % count
    return [*first, *last]
