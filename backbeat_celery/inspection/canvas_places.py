"""What a node is in a canvas: a header, a body, a step, a callback."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from backbeat_celery.engine.rescue import ERRBACK_KEY
from backbeat_celery.models import Node
from backbeat_celery.states import Container, Input, Mode

HEADER, BODY = _("header"), _("body")
LINK, ERRBACK = _("link"), _("error callback")
FAILURE_INPUTS = frozenset({Input.FAILURE, Input.FAILED_ID})


def is_link(node: Node, parent: Node) -> bool:
    """Whether a node is called with the result of its parent, and awaited by nobody."""
    given = node.input == Input.PARENT and not parent.is_container
    return given and node.mode == Mode.FIRE_AND_FORGET


def is_errback(node: Node) -> bool:
    """Whether a node is called because one above or beside it has failed; a rescue is not."""
    is_shared = (node.key or "").startswith(f"{ERRBACK_KEY} ")
    return node.rescue and (node.input in FAILURE_INPUTS or is_shared)


def places(node: Node, parent: Node | None) -> list[str]:
    """Name what a node is in the canvas around it, as far as its name does not say so."""
    found = []
    if parent is not None and parent.container == Container.CHORD and node.counts:
        if node.seq or node.name != "header":
            found.append(str(BODY if node.seq else HEADER))
    elif parent is not None and is_link(node, parent):
        found.append(str(LINK))
    if is_errback(node):
        found.append(str(ERRBACK))
    return found


def is_plain_member(node: Node, parent: Node | None) -> bool:
    """Whether a node has the mode that its place in a canvas gives it."""
    if parent is None:
        return False
    if parent.container == Container.GROUP:
        return node.mode == Mode.NON_BLOCKING
    return is_link(node, parent)
