"""Cancel nodes: the engine's side of `cancel`, `reset` and `retry`."""

from __future__ import annotations

from django.db import transaction

from backbeat_celery.engine.wake import Wake
from backbeat_celery.models import Node
from backbeat_celery.states import Status
from backbeat_celery.transitions import transition


def cancel_row(node: Node) -> Wake:
    """Cancel one node whose parent is canceled already."""
    wake = Wake()
    with transaction.atomic(using=node.alias):
        transition(node, Status.CANCELED, reason="its parent was canceled")
    wake.ended(node)
    return wake
