"""The progress that a running handler reports: checked, throttled and stored in its node's row.

Nothing depends on progress, so it may be late or lost. A database error while writing it is
logged, and the handler goes on.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import connections

from backbeat_celery.engine.claim import Claim
from backbeat_celery.exceptions import BadInput
from backbeat_celery.inputs import payload
from backbeat_celery.models import Node
from backbeat_celery.runtime.text import quote, shorten
from backbeat_celery.states import Status

logger = logging.getLogger(__name__)

LONGEST_MESSAGE = 255
BURST = 5
"""New messages that are written without delay; then at most one is written in a second."""


class ProgressReport:
    """The progress of one attempt: at most about one UPDATE in a second."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._depth = self._transactions()
        self._written_at = -math.inf
        self._written: dict[str, Any] = {}
        self._spare, self._refilled_at = float(BURST), time.monotonic()

    def report(self, done: float, total: float | None, message: str) -> None:
        """Keep the progress, and write it unless that was done less than a second ago."""
        values = _checked(done, total, message)
        report = {**values, "at": self._claim.now()}
        payload.encode(report, "The progress")  # refused here, not when the outcome is recorded
        # What is not written now is written with the result.
        self._claim.progress = report
        if self._transactions() > self._depth or not self._is_time(values):
            return
        self._write(values)

    def _is_time(self, values: dict[str, Any]) -> bool:
        if values == self._written:
            return False
        now = time.monotonic()
        self._spare = min(BURST, self._spare + now - self._refilled_at)
        self._refilled_at = now
        is_new_message = values["message"] != self._written.get("message")
        if is_new_message and self._spare >= 1:
            self._spare -= 1
            return True
        is_end = _is_final(values) and not _is_final(self._written)
        return is_end or now - self._written_at >= 1

    def _write(self, values: dict[str, Any]) -> None:
        claim = self._claim
        self._written, self._written_at = values, time.monotonic()
        rows = Node.objects.using(claim.using).filter(pk=claim.node.pk, status=Status.RUNNING)
        try:
            rows.filter(claim.is_current).update(progress=claim.progress)
        except AnyDatabaseError as exc:
            logger.warning(
                "Cannot write the progress of node %s: %r. Its handler goes on.",
                claim.node.pk,
                exc,
                extra={"node_id": claim.node.pk, "attempt": claim.node.attempt},
            )
            if not self._depth:
                connections[claim.using].close_if_unusable_or_obsolete()

    def _transactions(self) -> int:
        """Count open transactions: inside one of the handler's own, nothing is written.

        It would not be visible before the commit. Until then the lock on the row would delay the
        renewal of the leases of all nodes that this worker runs.
        """
        return len(connections[self._claim.using].atomic_blocks)


def _is_final(values: dict[str, Any]) -> bool:
    return values.get("total") is not None and values["done"] >= values["total"]


def _checked(done: Any, total: Any, message: Any) -> dict[str, Any]:
    if not _is_amount(done):
        raise BadInput(f"progress: done must be a number that is not negative, not {quote(done)}.")
    if total is not None and not _is_amount(total):
        raise BadInput(
            f"progress: total must be None or a number that is not negative, not {quote(total)}."
        )
    if not isinstance(message, str):
        raise BadInput(f"progress: message must be a string, not {type(message).__name__}.")
    return {"done": done, "total": total, "message": _cleaned(message)}


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value < math.inf


def _cleaned(text: str) -> str:
    """Shorten a message and replace what cannot be stored, instead of failing the handler."""
    text = text.replace("\x00", "�").encode("utf-8", "replace").decode()
    return shorten(text, LONGEST_MESSAGE)
