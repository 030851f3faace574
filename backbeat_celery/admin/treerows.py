"""Read the rows of a tree page: a page of children for each branch that is open.

The cost depends on what is shown, never on how many children there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Min, Q

from backbeat_celery.admin.treestate import TreeState
from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.models import Node
from backbeat_celery.states import Mode, Status

PAGE = 50
"""Children shown at once of one node."""

ROOM = 300
"""Rows that a page opens by itself or is asked to open."""

DEPTH = 12
"""Levels below the top that are shown; what is deeper has a page of its own."""


@dataclass(slots=True)
class TreeRow:
    """A node on the page, with the children that are shown below it."""

    node: Node
    level: int
    is_open: bool = False
    start: int = 0
    size: int = 1
    children: list[TreeRow] = field(default_factory=list)
    note: str = ""
    blocker: int | None = None

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
        """How many places there are before the first child shown."""
        return self.start if self.is_open else 0

    @property
    def after(self) -> int:
        """How many places there are after the last child shown."""
        if not self.is_open or not self.children:
            return 0
        return max(0, self.node.next_seq - self.children[-1].node.seq - 1)

    def walk(self) -> Iterator[TreeRow]:
        """This row and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


def read_rows(top: Node, state: TreeState, visibility: Visibility) -> TreeRow:
    """Read what a page shows of the tree below a node, level by level."""
    root = TreeRow(top, 0, is_open=top.next_seq > 0)
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
    """Where to begin below the top: where something is still to be done, else with the last."""
    chosen = state.page_of(root.node.pk)
    if chosen is not None or not root.is_wide:
        return chosen or 0
    nodes = visibility.nodes(Node.objects.using(root.node.alias).awaited_by(root.node.pk))
    first = nodes.aggregate(first=Min("seq"))["first"]
    last_page = root.node.next_seq - PAGE
    return last_page if first is None else max(0, min(first - 3, last_page))


def _open(rows: Iterable[TreeRow], state: TreeState, room: int) -> None:
    """Choose which branches of a level are open: those asked for, then those still at work."""
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
    # Options tell how often a node is retried where its task is not known.
    slim = nodes.defer("args", "kwargs", "result", "error", "metadata")
    for node in slim.order_by("parent", "seq"):
        assert node.parent_id is not None
        parent = by_id[node.parent_id]
        parent.children.append(TreeRow(node, parent.level + 1, size=parent.node.next_seq))
    return [child for row in parents for child in row.children]


def _note_blockers(rows: Iterable[TreeRow]) -> None:
    """Note for each parent with a child that waits for its turn who is first in its line."""
    waiting: dict[UUID, list[TreeRow]] = defaultdict(list)
    for row in rows:
        if row.node.status == Status.READY and row.node.parent_id:
            waiting[row.node.parent_id].append(row)
    if not waiting:
        return
    using = next(iter(waiting.values()))[0].node.alias
    nodes = Node.objects.using(using).filter(awaited_by__in=list(waiting), mode=Mode.BLOCKING)
    for found in nodes.order_by().values("awaited_by").annotate(first=Min("seq")):
        assert found["awaited_by"] is not None
        for row in waiting[found["awaited_by"]]:
            if found["first"] < row.node.seq:
                row.blocker = found["first"]
