"""What a node's page shows of a canvas: what a node is given, what it gives, what follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from backbeat_celery.admin.visibility import Visibility
from backbeat_celery.engine.values import (
    FAILED_NODE,
    ValueMissing,
    all_secrets,
    source_of,
    value_of,
)
from backbeat_celery.exceptions import BackbeatError
from backbeat_celery.inputs.callbacks import callbacks_of
from backbeat_celery.inputs.redaction import redact
from backbeat_celery.models import Node
from backbeat_celery.states import Input, Status, Yields

MOST = 200
"""Nodes whose results make up a value that is shown."""

LARGEST = 256 * 1024
"""Bytes of a value that is shown."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the first argument of a node comes from."""

    text: str
    node: Node | None = None
    """None: there is no such node, or it is not shown to the user."""


def source(node: Node, visibility: Visibility) -> Source | None:
    """Find the node that another one gets its input from; None if it gets none."""
    if node.input == Input.NONE or node.is_root:
        return None
    what = {
        Input.FAILURE: _("request, exception and traceback of"),
        Input.FAILED_ID: _("the id of"),
    }
    text = what.get(Input(node.input), _("the value of"))
    try:
        found = _failed(node) if node.input in what else source_of(node)
    except ValueMissing:
        return Source(_("nothing: it is not there"))
    if found is None:  # a step of an error callback that is a canvas
        text, found = what[Input.FAILED_ID], _callback_of(node)
    seen = visibility.seen([found])
    return (
        Source(text, found) if seen else Source(f"{text} {_('a node that is not shown to you')}")
    )


def _failed(node: Node) -> Node:
    return _row(node, node.options.get(FAILED_NODE) or node.parent_id)


def _callback_of(node: Node) -> Node:
    while node.input == Input.PARENT:
        node = _row(node, node.parent_id)
    return _failed(node)


def _row(near: Node, pk: Any) -> Node:
    return Node.objects.using(near.alias).get(pk=pk)


def value(node: Node, visibility: Visibility) -> tuple[Any, set[str]] | None:
    """Give a value that other nodes' results make up, redacted, with what must not be quoted.

    None if the node has a result of its own, or a part of the value is not shown to the user.
    """
    if node.yields == Yields.OWN or node.status != Status.COMPLETE:
        return None
    givers = list(_givers(node))
    if len(givers) > MOST or len(visibility.seen(givers)) < len(givers):
        return None
    secrets = {text for giver in givers for text in all_secrets(giver)}
    try:
        return redact(value_of(node, limit=LARGEST)), secrets
    except (ValueMissing, BackbeatError):
        return None


def _givers(node: Node) -> Iterator[Node]:
    """Give a node and those whose results its value has, one more than `MOST` at most."""
    ahead, count = [node], 0
    while ahead and count <= MOST:
        row = ahead.pop(0)
        count += 1
        yield row
        children = Node.objects.using(row.alias).children_of(row.pk).counting()
        if row.yields == Yields.LAST:
            ahead += children.order_by("-seq")[:1]
        elif row.yields == Yields.LIST:
            ahead += children.order_by("seq")[: MOST + 1]


def callbacks(node: Node) -> list[tuple[str, list[str]]]:
    """Name what follows the success and the failure of a node."""
    found = callbacks_of(node.options)
    rescue = [found.rescue] if found.rescue is not None else []
    kinds = [
        (_("On success"), found.links),
        (_("On failure"), found.errbacks),
        (_("Rescue"), rescue),
    ]
    return [(kind, [spec.name for spec in specs]) for kind, specs in kinds if specs]
