"""Transactions of another database, which a call to a verb is no part of."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from django.db import connections
from django.views.decorators import debug

from backbeat_celery.exceptions import NotInTransaction

OURS = (str(Path(__file__).parents[1]), debug.__file__)
"""Files of the package, and Django's decorator that wraps calls with a token."""


def warn_if_apart(using: str, call: str = "signal") -> None:
    """Warn if the only open transaction of the caller is on another database."""
    if len(connections.settings) == 1 or connections[using].in_atomic_block:
        return
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block and connection.alias != using:
            warnings.warn(
                f"This {call} is no part of the transaction on {connection.alias!r}, since nodes "
                f"are kept in {using!r}: it stays if that is rolled back, and what follows from "
                f"it may run before that is committed. Make it by transaction.on_commit(..., "
                f"using={connection.alias!r}).",
                NotInTransaction,
                stacklevel=_depth_of_caller(),
            )
            return


def _depth_of_caller() -> int:
    """Give the stack level of the code that called the package, for `warnings.warn`."""
    depth, frame = 0, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OURS):
        depth, frame = depth + 1, frame.f_back
    return depth + 1
