"""Read the rows of a tree page: one page of children for each open branch.

The cost depends on what is shown, not on how many children there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Self

from django.db.models import Case, Min, OuterRef, Q, Subquery, When
from django.db.models.functions import Coalesce

from backbeat_celery.admin.treestate import TreeState
from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.engine.order.waiting_graph import siblings_ahead
from backbeat_celery.inspection.tree_reader import TreeNode, add_children
from backbeat_celery.models import Node
from backbeat_celery.states import Mode, Status

PAGE = 50
"""Children shown at once of one node."""

ROOM = 300
"""Rows that a page shows at most, whether opened by default or by the user."""

DEPTH = 12
"""Levels below the top that are shown; deeper nodes have pages of their own."""


@dataclass(slots=True, eq=False)
class TreeRow(TreeNode):
    """A node on the page, with the children that are shown below it."""

    level: int = 0
    is_open: bool = False
    start: int = 0
    size: int = 1
    """Children of its parent, itself included."""
    blocker: int | None = None
    """The place of the first sibling that it waits for."""

    def add(self, node: Node) -> Self:
        child = TreeNode.add(self, node)  # super() fails in a dataclass with slots
        child.level, child.size = self.level + 1, self.node.next_seq
        return child

    @property
    def has_children(self) -> bool:
        return self.node.next_seq > 0

    @property
    def is_deep(self) -> bool:
        """Whether its children are too deep for this page."""
        return self.has_children and self.level >= DEPTH

    @property
    def is_wide(self) -> bool:
        return self.node.next_seq > PAGE

    @property
    def before(self) -> int:
        """How many children are before the first one shown."""
        return self.start if self.is_open else 0

    @property
    def after(self) -> int:
        """How many children are after the last one shown."""
        if not self.is_open or not self.children:
            return 0
        return max(0, self.node.next_seq - self.children[-1].node.seq - 1)


def read_rows(top: Node, state: TreeState, visibility: Visibility) -> TreeRow:
    """Read what a page shows of the tree below a node, level by level."""
    root = TreeRow(top, is_open=top.next_seq > 0)
    root.start = _first_page(root, state, visibility)
    level, room = [root], ROOM
    for _level in range(DEPTH):
        opened = [row for row in level if row.is_open]
        if not opened:
            break
        level = _read_children(opened, visibility)
        room -= len(level)
        _open(level, state, room)
    _note_blockers(root.walk())
    return root


def _first_page(root: TreeRow, state: TreeState, visibility: Visibility) -> int:
    """Where the top's children begin: near the first unfinished one, else at the last page."""
    chosen = state.page_of(root.node.pk)
    if chosen is not None or not root.is_wide:
        return chosen or 0
    nodes = visibility.nodes(Node.objects.using(root.node.alias).awaited_by(root.node.pk))
    first = nodes.aggregate(first=Min("seq"))["first"]
    last_page = root.node.next_seq - PAGE
    return last_page if first is None else max(0, min(first - 3, last_page))


def _open(rows: Iterable[TreeRow], state: TreeState, room: int) -> None:
    """Choose which branches of a level are open: first those that the user opened."""
    parents = [row for row in rows if row.has_children and row.level < DEPTH]
    for row in parents:
        row.start = state.page_of(row.node.pk) or 0
    for row in sorted(parents, key=lambda row: (row.node.pk not in state.opened, _rank(row))):
        size = min(row.node.next_seq, PAGE)
        row.is_open = size <= room and row.node.pk not in state.folded
        room -= size if row.is_open else 0


def _rank(row: TreeRow) -> tuple[bool, int]:
    return row.node.is_finished, row.node.seq


def _read_children(parents: list[TreeRow], visibility: Visibility) -> list[TreeRow]:
    """Read one page of children for each of these rows, in one statement."""
    by_id = {row.node.pk: row for row in parents}
    wanted = Q(parent__in=[row.node.pk for row in parents if not row.is_wide])
    for row in parents:
        if row.is_wide:
            wanted |= Q(parent=row.node.pk, seq__gte=row.start, seq__lt=row.start + PAGE)
    nodes = visibility.nodes(Node.objects.using(parents[0].node.alias).filter(wanted))
    # Options say how often a node is retried if its task is not registered here.
    slim = nodes.defer("args", "kwargs", "result", "error", "metadata")
    add_children(by_id, slim.order_by("parent", "seq"))
    return [child for row in parents for child in row.children]


def _note_blockers(rows: Iterable[TreeRow]) -> None:
    """Note at each ready row a sibling that it waits for, a blocking one if there is any."""
    ready = {row.node.pk: row for row in rows if row.node.status == Status.READY}
    if not ready:
        return
    using = next(iter(ready.values())).node.alias
    # A statement for each mode, which its index answers with one row.
    ahead = partial(siblings_ahead, OuterRef("parent_id"), OuterRef("seq"))
    first = {
        mode: Subquery(rows.order_by("seq").values("seq")[:1])
        for mode, rows in {
            Mode.BLOCKING: ahead(barrier=False),
            Mode.NON_BLOCKING: ahead(barrier=True).filter(mode=Mode.NON_BLOCKING),
        }.items()
    }
    barrier = Coalesce(first[Mode.BLOCKING], first[Mode.NON_BLOCKING])
    blocker = Case(When(barrier=True, then=barrier), default=first[Mode.BLOCKING])
    nodes = Node.objects.using(using).filter(pk__in=list(ready)).annotate(blocker=blocker)
    for pk, seq in nodes.values_list("pk", "blocker"):
        ready[pk].blocker = seq
