"""Read the header of a message about a node. The claim checks everything it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from django.db import connections

from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.inputs.message_headers import CLAIM_HEADER, HEADER
from backbeat_celery.inputs.task_options import LARGEST_BUNDLE

_TYPES = {"node": str, "attempt": int, "db": str}


def has_header(headers: Mapping[str, Any]) -> bool:
    """Tell whether a message claims to be about a node.

    A message that a handler has sent with the headers of its own message is not.
    """
    ours = headers.get(HEADER)
    if isinstance(ours, dict) and "id" in ours:
        return bool(ours["id"] == headers.get("id"))
    return ours is not None


def parse(headers: Mapping[str, Any], task: str) -> NodeMessage | None:
    """Read our header; None if it is malformed."""
    ours = headers.get(HEADER)
    if not isinstance(ours, dict) or ours.keys() - {"id", "others"} != _TYPES.keys():
        return None
    if any(type(ours[name]) is not kind for name, kind in _TYPES.items()):
        return None
    if ours["db"] not in connections or not 0 < ours["attempt"] < 2**31:
        return None
    try:
        node_id = UUID(ours["node"])
        claim_id = UUID(headers[CLAIM_HEADER]) if headers.get(CLAIM_HEADER) else uuid4()
        others = dict.fromkeys(UUID(other) for other in ours.get("others", ())[:LARGEST_BUNDLE])
        others.pop(node_id, None)
    except (ValueError, TypeError, AttributeError):
        return None
    # Celery has converted it to a string already, or has rejected the message.
    task_id = str(headers.get("id") or "")[:255] or None
    return NodeMessage(
        node_id, task, ours["attempt"], ours["db"], claim_id, tuple(others), task_id
    )
