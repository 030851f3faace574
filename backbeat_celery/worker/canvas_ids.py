"""Show a handler in a canvas the ids that Celery would: its root, what was before it, its group.

They are read from the rows, and only when somebody asks: most handlers never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import Error as AnyDatabaseError

from backbeat_celery.inputs.message_headers import IN_CANVAS
from backbeat_celery.models import Node
from backbeat_celery.runtime.compat.celery import headers_of_call
from backbeat_celery.states import Container

if TYPE_CHECKING:
    Context: Any = object  # its attributes cannot be properties for a type checker
else:
    from celery.app.task import Context

_NODE, _IDS = "backbeat_node", "backbeat_ids"
_SHAPE = ("parent_id", "seq", "container", "celery_id")


class CanvasContext(Context):  # type: ignore[misc]
    """The request of a task that is a step of a canvas."""

    @property
    def root_id(self) -> Any:
        """The id of the first task of the outermost canvas."""
        return _ids(self)["root_id"]

    @property
    def parent_id(self) -> Any:
        """The id of the step before; of a group before it, that of a member."""
        return _ids(self)["parent_id"]

    @property
    def group(self) -> Any:
        """The id of the innermost group."""
        return _ids(self)["group"]


def show_ids(request: Any, node: Node) -> None:
    """Let the request show the node's ids, if the node is a step of a canvas."""
    if IN_CANVAS in node.options:
        request.update({_NODE: node})
        headers_of_call(request).pop(_IDS, None)  # those of the node before in a bundle
        request.__class__ = CanvasContext
    elif type(request) is CanvasContext:
        request.__class__ = Context


def _ids(request: Any) -> dict[str, Any]:
    own = headers_of_call(request)
    if _IDS not in own:
        sent = {name: own.get(name) for name in ("root_id", "parent_id", "group")}
        try:
            own[_IDS] = sent | ids_in_canvas(own[_NODE])
        except AnyDatabaseError:
            return sent  # inside a broken transaction: what the message says
    ids: dict[str, Any] = own[_IDS]
    return ids


def ids_in_canvas(node: Node) -> dict[str, str | None]:
    """Read the ids of root, parent and group; empty if no canvas is around the node."""
    nodes = Node.objects.using(node.alias).only(*_SHAPE)
    top, before, group = node, None, None
    while top.parent_id is not None:
        above = nodes.get(pk=top.parent_id)
        if not above.is_container:
            break
        if above.container == Container.GROUP:
            group = group or above.shown_id
        elif before is None:
            before = nodes.steps_before(above.pk, top.seq).first()
        top = above
    if top is node:
        return {}
    return {
        "root_id": _task_in(top, "seq").shown_id,
        "parent_id": None if before is None else _task_in(before, "-seq").shown_id,
        "group": group,
    }


def _task_in(node: Node, order: str) -> Node:
    """The first or the last task of what may be a canvas."""
    nodes = Node.objects.using(node.alias).only(*_SHAPE)
    while node.is_container:
        child = nodes.children_of(node.pk).counting().order_by(order).first()
        if child is None:
            break
        node = child
    return node
