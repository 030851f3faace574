"""Read the tree: history and attempts of a node, and a printable picture. Writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Count

from backbeat_celery.models import Attempt, Node, Transition, Workflow
from backbeat_celery.states import Mode, Status
from backbeat_celery.transitions import status_before_claim

PAGE = 1000
"""Nodes shown of one tree unless told otherwise."""


def history(node: Node) -> list[Transition]:
    """Every change of a node's status in order, its creation first.

    Creation and the step into `running` are read off the node's own columns.
    """
    written = list(node.transitions.order_by("pk"))
    running = node.status == Status.RUNNING
    if written:
        first = written[0].from_status
    else:
        first = status_before_claim(node) if running else node.status
    created = Transition(node=node, to_status=first, at=node.created_at, attempt=0)
    rows = [created, *written]
    if running:
        rows.append(
            Transition(
                node=node,
                from_status=rows[-1].to_status,
                to_status=Status.RUNNING,
                at=node.started_at or node.created_at,
                attempt=node.attempt,
                actor=node.worker,
            )
        )
    return rows


def attempts(node: Node) -> list[Attempt]:
    """Every attempt of a node in order, the running one included."""
    rows = list(node.ended_attempts.order_by("number"))
    if node.status == Status.RUNNING:
        rows.append(
            Attempt(node=node, number=node.attempt, worker=node.worker, started_at=node.started_at)
        )
    return rows


@dataclass(slots=True)
class Branch:
    """A node with its children, in order."""

    node: Node
    children: list[Branch] = field(default_factory=list)
    hidden: int = 0
    """Children left out because the page was full."""

    def walk(self) -> Iterator[Branch]:
        """This branch and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


def tree(start: Workflow | Node, limit: int = PAGE) -> Branch:
    """Read the tree below a workflow or a node, level by level, at most `limit` nodes of it.

    The number of statements depends on the depth alone.
    """
    top = start.root if isinstance(start, Workflow) else start
    top.refresh_from_db()
    root = Branch(top)
    level, room = {top.pk: root}, limit
    while level and room > 0:
        level, room = _read_level(level, room, top.alias)
    if room <= 0:
        _count_hidden(root, top.alias)
    return root


def _count_hidden(root: Branch, using: str) -> None:
    """Tell at each branch how many children the page had no room for."""
    branches = {branch.node.pk: branch for branch in root.walk() if branch.node.next_seq}
    children = Node.objects.using(using).filter(parent__in=list(branches)).order_by()
    for row in children.values("parent").annotate(count=Count("pk")):
        branch = branches[row["parent"]]  # type: ignore[index]
        branch.hidden = row["count"] - len(branch.children)


def _read_level(
    parents: dict[UUID, Branch], room: int, using: str
) -> tuple[dict[UUID, Branch], int]:
    by_parent: dict[UUID, list[Node]] = defaultdict(list)
    children = Node.objects.using(using).filter(parent__in=list(parents)).order_by("parent", "seq")
    rows = list(children.defer("result", "args", "kwargs")[: room + 1])
    for row in rows[:room]:
        by_parent[row.parent_id].append(row)  # type: ignore[index]
    below = {}
    for parent_id, nodes in by_parent.items():
        branch = parents[parent_id]
        branch.children = [Branch(node) for node in nodes]
        below.update({child.node.pk: child for child in branch.children})
    return below, room - len(rows)


SIGNS = {
    Status.PENDING: "·",
    Status.READY: "○",
    Status.QUEUED: "◔",
    Status.RUNNING: "▶",
    Status.RETRYING: "↻",
    Status.WAITING: "◑",
    Status.PAUSED: "⏸",
    Status.FAILED: "✖",
    Status.COMPLETE: "✔",
    Status.CANCELED: "⊘",
}


def render(start: Workflow | Node, limit: int = PAGE) -> str:
    """Draw the tree below a workflow or a node as text."""
    branch = tree(start, limit)
    title = str(start) if isinstance(start, Workflow) else label(start)
    return "\n".join([title, *_lines(branch, "")])


def label(node: Node) -> str:
    """One line about a node: sign, name, status, and what is special about it."""
    words = [SIGNS[Status(node.status)], node.name, node.status]
    if node.mode != Mode.BLOCKING:
        words.append(f"[{Mode(node.mode).label}]")
    if node.barrier:
        words.append("[barrier]")
    if node.retries:
        words.append(f"after {node.retries} failed")
    if node.lost_attempts:
        words.append(f"{node.lost_attempts} lost")
    return " ".join(str(word) for word in words)


def _lines(branch: Branch, indent: str) -> Iterator[str]:
    last = len(branch.children) - 1
    for index, child in enumerate(branch.children):
        is_last = index == last and not branch.hidden
        yield f"{indent}{'└─' if is_last else '├─'} {label(child.node)}"
        yield from _lines(child, indent + ("   " if is_last else "│  "))
    if branch.hidden:
        yield f"{indent}└─ … {branch.hidden} more"
