"""Reading and drawing the tree of a workflow or a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack, cast

if TYPE_CHECKING:
    from backbeat_celery.inspection.tree_reader import TreeNode
    from backbeat_celery.models import Node, Workflow
    from backbeat_celery.typing import TreeOptions


class TreeMixin:
    """The methods of `Workflow` and `Node` that show it with its descendants."""

    def tree(self, **options: Unpack[TreeOptions]) -> TreeNode:
        """Read this and what is below it, at most `limit` nodes, 1000 unless told otherwise.

        With `statuses` or `task` it has the nodes that match, and those above them.
        """
        from backbeat_celery.inspection.tree import tree

        return tree(cast("Workflow | Node", self), **options)

    def render(self, *, color: bool | None = None, **options: Unpack[TreeOptions]) -> str:
        """Draw this and what is below it as text; takes the options of `tree`.

        Without `color` it is coloured if standard output is a terminal.
        """
        from backbeat_celery.inspection.tree import render

        return render(cast("Workflow | Node", self), color=color, **options)
