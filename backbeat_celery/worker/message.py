"""Read the header of a message that names a node. Nothing in it is trusted but as a hint."""

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

    One that has only been sent with another's headers, as a handler may do, is not.
    """
    said = headers.get(HEADER)
    if isinstance(said, dict) and "id" in said:
        return bool(said["id"] == headers.get("id"))
    return said is not None


def parse(headers: Mapping[str, Any], task: str) -> NodeMessage | None:
    """Read our header; None for one that we did not write."""
    said = headers.get(HEADER)
    if not isinstance(said, dict) or said.keys() - {"id", "others"} != _TYPES.keys():
        return None
    if any(type(said[name]) is not kind for name, kind in _TYPES.items()):
        return None
    if said["db"] not in connections or not 0 < said["attempt"] < 2**31:
        return None
    try:
        node_id = UUID(said["node"])
        claim_id = UUID(headers[CLAIM_HEADER]) if headers.get(CLAIM_HEADER) else uuid4()
        others = dict.fromkeys(UUID(other) for other in said.get("others", ())[:LARGEST_BUNDLE])
        others.pop(node_id, None)
    except (ValueError, TypeError, AttributeError):
        return None
    # Celery has made a text of it already, or has refused the message.
    task_id = str(headers.get("id") or "")[:255] or None
    return NodeMessage(
        node_id, task, said["attempt"], said["db"], claim_id, tuple(others), task_id
    )
