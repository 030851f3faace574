"""Read the history and attempts of a node, and render its tree as text. Writes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.termcolors import colorize

from backbeat_celery.inputs.redaction import error_of, told_of
from backbeat_celery.inspection.canvas_places import is_errback, is_plain_member, places
from backbeat_celery.inspection.tree_reader import PAGE, TreeNode, tree
from backbeat_celery.models import Attempt, Node, Transition, Workflow
from backbeat_celery.models.transitions import status_before_claim
from backbeat_celery.states import Mode, Outcome, Status

__all__ = ["PAGE", "SIGNS", "TreeNode", "attempts", "draw", "history", "label", "render", "tree"]


def history(node: Node, latest: int | None = None) -> list[Transition]:
    """Give the transitions of a node in order, its creation first; or the `latest` ones.

    Creation and the transition to `running` are derived from the node's own columns.
    """
    rows = _last(node.transitions.order_by("pk"), latest)
    running = node.status == Status.RUNNING
    if latest is None or len(rows) < latest:
        if rows:
            first = rows[0].from_status
        else:
            first = status_before_claim(node) if running else node.status
        created = Transition(node=node, to_status=first, at=node.created_at, attempt=0)
        rows = [created, *rows]
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
    return rows if latest is None else rows[-latest:]


def attempts(node: Node, latest: int | None = None) -> list[Attempt]:
    """Give the attempts of a node in order, the running one included; or the `latest` ones."""
    ended = node.ended_attempts.order_by("number")
    # Who asks for the latest shows them, and nobody is shown an error's arguments.
    rows = _last(ended if latest is None else ended.defer("error_args"), latest)
    if node.status == Status.RUNNING:
        rows.append(Attempt.running(node))
    return rows if latest is None else rows[-latest:]


def _last(rows: QuerySet[Any], count: int | None) -> list[Any]:
    """Give the last rows in their order: a node may have any number of attempts."""
    return list(rows) if count is None else list(rows.reverse()[:count])[::-1]


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


COLOURS: Mapping[Status, dict[str, Any]] = {
    Status.RUNNING: {"fg": "cyan"},
    Status.RETRYING: {"fg": "yellow"},
    Status.PAUSED: {"fg": "magenta"},
    Status.FAILED: {"fg": "red", "opts": ("bold",)},
    Status.COMPLETE: {"fg": "green"},
}


def render(
    start: Workflow | Node,
    limit: int = PAGE,
    *,
    color: bool | None = False,
    statuses: Collection[str] = (),
    task: str = "",
) -> str:
    """Render the tree below a workflow or a node as text, at most `limit` nodes.

    `color=None` uses colours if standard output is a terminal and NO_COLOR is not set. With
    `statuses` or `task` only matching nodes and those above them are shown.
    """
    branch = tree(start, limit, statuses=statuses, task=task)
    return draw(branch, start, takes_color(sys.stdout) if color is None else color)


def draw(branch: TreeNode, start: Workflow | Node, color: bool = False) -> str:
    """Render a tree that was read before."""
    title = _title(start) if isinstance(start, Workflow) else label(branch.node, color)
    return "\n".join([title, *_lines(branch, color)])


def takes_color(stream: Any) -> bool:
    """Tell whether a stream is a terminal that colours are wanted on."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and bool(stream.isatty())


def _title(workflow: Workflow) -> str:
    words = [str(workflow)]
    if workflow.paused_at:
        words.append("[paused]")
    if workflow.closed_at and workflow.unfinished:
        words.append("[closed]")
    return " ".join(words)


def label(node: Node, color: bool = False, parent: Node | None = None) -> str:
    """Render one line about a node: sign, name, status, and flags.

    With its parent it says what the node is in a canvas.
    """
    status = Status(node.status)
    words = [SIGNS[status], node.name, node.outcome if _is_forced(node) else node.status]
    words += _marks(node, parent)
    if node.retries:
        words.append(f"after {node.retries} failed")
    if node.lost_attempts:
        words.append(f"{node.lost_attempts} lost")
    text = " ".join(str(word) for word in words) + _times(node) + _progress(node)
    if node.status == Status.FAILED and node.error:
        text += f": {error_of(node).splitlines()[0][:100]}"
    return colorize(text, **COLOURS[status]) if color and status in COLOURS else text


def _is_forced(node: Node) -> bool:
    return node.outcome in {Outcome.RESOLVED, Outcome.SHUTDOWN}


def _marks(node: Node, parent: Node | None) -> Iterator[str]:
    for place in places(node, parent):
        yield f"[{place}]"
    if node.mode != Mode.BLOCKING and not node.rescue and not is_plain_member(node, parent):
        yield f"[{Mode(node.mode).label}]"
    for name in ("barrier", "rescue", "remote"):
        if getattr(node, name) and not (name == "rescue" and is_errback(node)):
            yield f"[{name}]"


def _times(node: Node) -> str:
    """Say when a node that does not run yet is due, and when it expires."""
    text = ""
    if node.fires_at is not None and node.status in {Status.QUEUED, Status.RETRYING}:
        text = f", due {timezone.localtime(node.fires_at):%Y-%m-%d %H:%M:%S %Z}"
    if node.expires_at is not None:
        text += f", expires {timezone.localtime(node.expires_at):%Y-%m-%d %H:%M:%S %Z}"
    return text


def _progress(node: Node) -> str:
    stored = node.progress
    if node.status != Status.RUNNING or not isinstance(stored, dict) or stored.get("done") is None:
        return ""
    total = stored.get("total")
    message = f" {told_of(node, str(stored['message']))}" if stored.get("message") else ""
    return f", {stored['done']}{'' if total is None else f' of {total}'} done{message}"


def _lines(top: TreeNode, color: bool) -> Iterator[str]:
    """Give the lines below a node, without recursion, since trees may be deep."""
    ahead = _below(top, "")
    while ahead:
        item, indent, is_last, parent = ahead.pop()
        if isinstance(item, int):
            yield f"{indent}└─ … {item} more"
            continue
        yield f"{indent}{'└─' if is_last else '├─'} {label(item.node, color, parent)}"
        ahead += _below(item, indent + ("   " if is_last else "│  "))


def _below(branch: TreeNode, indent: str) -> list[tuple[TreeNode | int, str, bool, Node]]:
    """Give a node's children and the number of hidden ones, last first."""
    items: list[TreeNode | int] = [*branch.children]
    if branch.hidden:
        items.append(branch.hidden)
    last = len(items) - 1
    lines = [(item, indent, index == last, branch.node) for index, item in enumerate(items)]
    return lines[::-1]
