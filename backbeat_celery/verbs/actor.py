"""Actor and reason of a verb, which the history stores as text."""

from __future__ import annotations

from typing import Any

from backbeat_celery.engine.outcomes import clean
from backbeat_celery.exceptions import BadInput

LONGEST = 150
LONGEST_REASON = 255


def actor_name(by: Any) -> str:
    """Give the name that the history stores: a username, or the text itself; empty for None.

    Raises BadInput for anything else.
    """
    if by is None:
        return ""
    name = by.get_username() if hasattr(by, "get_username") else by
    if not isinstance(name, str):
        raise BadInput(f"`by` is a user or a text that names who acts, not {type(by).__name__}.")
    return clean(name)[:LONGEST]


def reason_text(reason: str) -> str:
    """Give the reason as the history stores it, or raise BadInput."""
    if not isinstance(reason, str):
        raise BadInput(f"`reason` is a text, not {type(reason).__name__}.")
    return clean(reason)[:LONGEST_REASON]
