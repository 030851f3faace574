"""Draw the trees: what the screen shows of a workflow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from backbeat_celery.inspection.tree import SIGNS, TreeNode, tree
from backbeat_celery.models import Node
from backbeat_celery.states import Status
from demo_project.shop.demo.story import Order, Plot
from demo_project.shop.demo.verdict import LIMIT, short

FOLD = 8
"""So many siblings of one kind are shown as one line."""

STYLES = {
    Status.RUNNING: "bold cyan",
    Status.RETRYING: "yellow",
    Status.WAITING: "blue",
    Status.FAILED: "bold red",
    Status.COMPLETE: "green",
    Status.CANCELED: "dim",
}


WIDE = 100
"""Columns from which two trees fit side by side."""


def draw(plot: Plot, width: int, height: int | None = None) -> RenderableType:
    """All trees of the demo; on a screen that is too low, the finished ones as a line each."""
    folds = height is not None and height < (24 if width >= WIDE else 36)
    pictures = [_order(order, folds) for order in plot.orders]
    pictures.append(_picture("newsletter", [tree(plot.newsletter, LIMIT)], folds))
    if width < WIDE:
        return Group(*pictures)
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    for left in range(0, len(pictures), 2):
        grid.add_row(*pictures[left : left + 2])
    return grid


def _order(order: Order, folds: bool) -> Tree:
    nodes = [node for node in (order.purchase, order.shipping) if node is not None]
    return _picture(str(order.camera), [tree(node) for node in nodes], folds)


def _picture(title: str, branches: list[TreeNode], folds: bool) -> Tree:
    if folds and all(branch.node.is_finished for branch in branches):
        return Tree(Text(f"{SIGNS[Status.COMPLETE]} {title}", style=STYLES[Status.COMPLETE]))
    picture = Tree(Text(title, style="bold"), guide_style="dim")
    _grow(picture, branches)
    return picture


def _grow(picture: Tree, branches: list[TreeNode]) -> None:
    for name, siblings in groupby(branches, key=lambda branch: branch.node.name):
        alike = list(siblings)
        if len(alike) >= FOLD:
            picture.add(_summary(name, alike))
            continue
        for branch in alike:
            _grow(picture.add(line(branch.node)), branch.children)


def line(node: Node) -> Text:
    """One node: its sign, name and status, and which attempt it took."""
    status = Status(node.status)
    text = Text.assemble(
        (f"{SIGNS[status]} ", STYLES.get(status, "")),
        short(node.name),
        (f"  {status.label}", STYLES.get(status, "dim")),
    )
    for words in _attempts(node, status):
        text.append(f" · {words}", style="yellow")
    return text


def _attempts(node: Node, status: Status) -> Iterator[str]:
    is_counted = status in {Status.RUNNING, Status.WAITING, Status.COMPLETE}
    lost = node.attempt - node.retries - is_counted
    if node.attempt > 1:
        yield f"attempt {node.attempt}"
    if node.retries:
        yield f"{node.retries} failed"
    if lost > 0 and status != Status.FAILED:
        yield f"{lost} lost"


def _summary(name: str, branches: list[TreeNode]) -> Text:
    counts = Counter(Status(branch.node.status) for branch in branches)
    text = Text(f"{short(name)} × {len(branches)}:")
    for status in Status:
        if counts[status]:
            text.append(f"  {SIGNS[status]} {counts[status]} {status.label}", STYLES.get(status))
    return text
