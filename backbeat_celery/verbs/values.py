"""Read the value of a finished node."""

from __future__ import annotations

from typing import Any

from backbeat_celery.engine.values import finished_value
from backbeat_celery.models import Node
from backbeat_celery.verbs.deleted_rows import reread


def get_result(node: Node) -> Any:
    """Give the value of a node; raise NotFinished before it is finished."""
    reread(node)
    return finished_value(node)
