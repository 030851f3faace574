"""Read a tree into nested nodes, level by level. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from uuid import UUID

from django.db.models import Count

from backbeat_celery.conf import settings
from backbeat_celery.inputs.redaction import node_secrets, quiet
from backbeat_celery.inspection.nested_json import nested_json
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.lineage import lineage
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime.batches import batched
from backbeat_celery.states import Input

PAGE = 1000
"""Nodes read of one tree by default."""

PLAIN = [
    "task",
    "name",
    "mode",
    "container",
    "status",
    "outcome",
    "barrier",
    "rescue",
    "remote",
    "awaits_completion",
    "attempt",
    "retries",
    "lost_attempts",
    "worker",
]
FREE_TEXT = ["error", "progress", "key", "celery_id"]
"""Columns written by people and handlers, which may quote a hidden value."""
TIMES = [
    *("fires_at", "expires_at", "created_at", "started_at", "finished_at"),
    *("lease_expires_at", "times_out_at"),
]


@dataclass(slots=True, eq=False)
class TreeNode:
    """A node with its children, in order."""

    node: Node
    children: list[Self] = field(default_factory=list, repr=False)
    hidden: int = 0
    """Children left out because the page was full."""

    def add(self, node: Node) -> Self:
        """Append a child, and give it."""
        child = type(self)(node)
        self.children.append(child)
        return child

    def walk(self) -> Iterator[Self]:
        """Give this node and all below it, parents before children."""
        ahead: list[Self] = [self]
        while ahead:
            branch = ahead.pop()
            yield branch
            ahead += reversed(branch.children)

    def as_dict(self) -> dict[str, Any]:
        """Give plain data for JSON: ids and times as text, children nested.

        Python's `json` fails at about five hundred levels; `as_json` does not.
        """
        made = {id(branch): _plain(branch) for branch in self.walk()}
        for branch in self.walk():
            made[id(branch)]["children"] = [made[id(child)] for child in branch.children]
        return made[id(self)]

    def as_json(self) -> str:
        """Give the same as text, for a tree of any depth."""
        return nested_json(self.as_dict())


T = TypeVar("T", bound=TreeNode)


def add_children(parents: Mapping[UUID, T], rows: Iterable[Node]) -> dict[UUID, T]:
    """Append nodes to their parents, in the order of the rows; give the new ones by their ids."""
    added: dict[UUID, T] = {}
    for row in rows:
        assert row.parent_id is not None
        added[row.pk] = parents[row.parent_id].add(row)
    return added


def _plain(branch: TreeNode) -> dict[str, Any]:
    node = branch.node
    times = {name: getattr(node, name) for name in TIMES}
    secrets = node_secrets(node)
    return {
        "id": str(node.pk),
        "input": Input(node.input).name.lower(),
        **{name: getattr(node, name) for name in PLAIN},
        **{name: quiet(getattr(node, name), secrets) for name in FREE_TEXT},
        **{name: time and time.isoformat() for name, time in times.items()},
        "metadata": quiet(node.metadata, secrets),
        "hidden": branch.hidden,
    }


def tree(
    start: Workflow | Node,
    limit: int = PAGE,
    *,
    statuses: Collection[str] = (),
    task: str = "",
) -> TreeNode:
    """Read the tree below a workflow or a node, level by level, at most `limit` nodes of it.

    With `statuses` or `task` only matching nodes and those above them are read. The number of
    statements depends on the depth alone.
    """
    top = start.root if isinstance(start, Workflow) else start
    top.refresh_from_db()
    if statuses or task:
        return _filtered(top, limit, statuses, task)
    root = TreeNode(top)
    level, room = {top.pk: root}, limit
    while level and room > 0:
        level, room = _read_level(level, room, top.alias)
    if room <= 0:
        _count_hidden(root, top.alias)
    return root


def _count_hidden(root: TreeNode, using: str) -> None:
    """Note at each node how many of its children were left out."""
    branches = {branch.node.pk: branch for branch in root.walk() if branch.node.next_seq}
    children = Node.objects.using(using).filter(parent__in=list(branches)).order_by()
    for row in children.values("parent").annotate(count=Count("pk")):
        branch = branches[row["parent"]]  # type: ignore[index]
        branch.hidden = row["count"] - len(branch.children)


def _read_level(
    parents: dict[UUID, TreeNode], room: int, using: str
) -> tuple[dict[UUID, TreeNode], int]:
    children = _shown(using).filter(parent__in=list(parents)).order_by("parent", "seq")
    rows = list(children[: room + 1])
    return add_children(parents, rows[:room]), room - len(rows)


def _filtered(top: Node, limit: int, statuses: Collection[str], task: str) -> TreeNode:
    """Find the matching nodes first, then read those above: they may be deep in a wide tree."""
    matching = _shown(top.alias).filter(workflow_id=top.workflow_id).exclude(pk=top.pk)
    if statuses:
        matching = matching.filter(status__in=statuses)
    if task:
        matching = matching.filter(task=task)
    rows = list(matching.order_by("pk")[: limit + 1])
    known = {row.pk: row for row in rows[:limit]}
    _climb(known, top)
    root = _assemble(top, known)
    root.hidden = matching.count() - limit if len(rows) > limit else 0
    return root


def _climb(known: dict[UUID, Node], top: Node) -> None:
    """Read the nodes above those that are known."""
    above = lineage({row.parent_id for row in known.values() if row.parent_id}, top.alias)
    missing = list(above.keys() - known.keys() - {top.pk})
    for some in batched(missing, PAGE):
        rows = _shown(top.alias).filter(pk__in=some)
        known.update({row.pk: row for row in rows})


def _assemble(top: Node, known: dict[UUID, Node]) -> TreeNode:
    """Nest the known nodes below `top`, and leave out those that are not below it."""
    branches = {pk: TreeNode(row) for pk, row in known.items()}
    branches[top.pk] = root = TreeNode(top)
    for row in sorted(known.values(), key=lambda row: row.seq):
        above = branches.get(row.parent_id) if row.parent_id else None
        if above is not None and row.pk != top.pk:
            above.children.append(branches[row.pk])
    return root


def _shown(using: str) -> NodeQuerySet:
    # With redaction, the arguments are needed to know what must not be quoted.
    arguments = () if settings.redact else ("args", "kwargs")
    return Node.objects.using(using).defer("result", *arguments)
