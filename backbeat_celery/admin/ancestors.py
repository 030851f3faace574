"""The ancestors of a node, read in one statement at any depth."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backbeat_celery.models import Node
from backbeat_celery.models.lineage import LEVELS, lineage

FIRST, LAST = 3, 20
"""Ancestors that are shown of a long line: the topmost and the nearest."""


def trail(node: Node) -> list[Node]:
    """Give the ancestors of a node, the topmost first, without the root.

    Of a long line the middle is left out: the node after the gap has a text in `left_out` that
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
