"""What has a tree that can be read and drawn: a workflow, and every node of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from backbeat_celery.late import late

if TYPE_CHECKING:
    from backbeat_celery.branches import Branch
    from backbeat_celery.typing import TreeOptions

_tree = late("backbeat_celery.tree", "tree")
_render = late("backbeat_celery.tree", "render")


class Drawn:
    """The methods of `Workflow` and `Node` that show the whole and what is below it."""

    def tree(self, **options: Unpack[TreeOptions]) -> Branch:
        """Read this and what is below it, at most `limit` nodes, 1000 unless told otherwise.

        With `statuses` or `task` it has the nodes that match, and those above them.
        """
        branch: Branch = _tree(self, **options)
        return branch

    def render(self, *, color: bool | None = None, **options: Unpack[TreeOptions]) -> str:
        """Draw this and what is below it as text; takes the options of `tree`.

        Without `color` it is coloured if standard output is a terminal.
        """
        text: str = _render(self, color=color, **options)
        return text
