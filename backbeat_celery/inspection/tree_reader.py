"""Read a tree level by level into branches. Writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Count

from backbeat_celery.conf import settings
from backbeat_celery.inputs.redaction import node_secrets, quiet
from backbeat_celery.inspection.nested_json import nested_json
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.lineage import lineage
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime.batches import batched

PAGE = 1000
"""Nodes shown of one tree unless told otherwise."""

PLAIN = [
    "task",
    "name",
    "mode",
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
TOLD = ["error", "progress", "key"]
"""What people and handlers have written, in which something may be quoted that is hidden."""
TIMES = ["fires_at", "created_at", "started_at", "finished_at", "lease_expires_at", "times_out_at"]


@dataclass(slots=True, eq=False)
class TreeNode:
    """A node with its children, in order."""

    node: Node
    children: list[TreeNode] = field(default_factory=list, repr=False)
    hidden: int = 0
    """Children left out because the page was full."""

    def walk(self) -> Iterator[TreeNode]:
        """This branch and all below it, parents first."""
        ahead = [self]
        while ahead:
            branch = ahead.pop()
            yield branch
            ahead += reversed(branch.children)

    def as_dict(self) -> dict[str, Any]:
        """The branch as plain data for JSON: ids and times as text, children nested.

        Python's `json` gives up at some five hundred levels; `as_json` does not.
        """
        made = {id(branch): _plain(branch) for branch in self.walk()}
        for branch in self.walk():
            made[id(branch)]["children"] = [made[id(child)] for child in branch.children]
        return made[id(self)]

    def as_json(self) -> str:
        """The same as text, however deep the tree is."""
        return nested_json(self.as_dict())


def _plain(branch: TreeNode) -> dict[str, Any]:
    node = branch.node
    times = {name: getattr(node, name) for name in TIMES}
    secrets = node_secrets(node)
    return {
        "id": str(node.pk),
        **{name: getattr(node, name) for name in PLAIN},
        **{name: quiet(getattr(node, name), secrets) for name in TOLD},
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

    With `statuses` or `task` it has the nodes that match, and those above them. The number
    of statements depends on the depth alone, and with these it is small.
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
    """Tell at each branch how many children the page had no room for."""
    branches = {branch.node.pk: branch for branch in root.walk() if branch.node.next_seq}
    children = Node.objects.using(using).filter(parent__in=list(branches)).order_by()
    for row in children.values("parent").annotate(count=Count("pk")):
        branch = branches[row["parent"]]  # type: ignore[index]
        branch.hidden = row["count"] - len(branch.children)


def _read_level(
    parents: dict[UUID, TreeNode], room: int, using: str
) -> tuple[dict[UUID, TreeNode], int]:
    by_parent: dict[UUID, list[Node]] = defaultdict(list)
    children = _shown(using).filter(parent__in=list(parents)).order_by("parent", "seq")
    rows = list(children[: room + 1])
    for row in rows[:room]:
        by_parent[row.parent_id].append(row)  # type: ignore[index]
    below = {}
    for parent_id, nodes in by_parent.items():
        branch = parents[parent_id]
        branch.children = [TreeNode(node) for node in nodes]
        below.update({child.node.pk: child for child in branch.children})
    return below, room - len(rows)


def _filtered(top: Node, limit: int, statuses: Collection[str], task: str) -> TreeNode:
    """Find what matches first, then climb: what is sought may lie deep in a wide tree."""
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
    """Hang the known nodes on each other, and leave out those that are not below `top`."""
    branches = {pk: TreeNode(row) for pk, row in known.items()}
    branches[top.pk] = root = TreeNode(top)
    for row in sorted(known.values(), key=lambda row: row.seq):
        above = branches.get(row.parent_id) if row.parent_id else None
        if above is not None and row.pk != top.pk:
            above.children.append(branches[row.pk])
    return root


def _shown(using: str) -> NodeQuerySet:
    # Where something is hidden, arguments tell what must not be quoted.
    arguments = () if settings.redact else ("args", "kwargs")
    return Node.objects.using(using).defer("result", *arguments)
