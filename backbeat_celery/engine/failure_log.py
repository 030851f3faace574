"""Log each node that has failed for good, once, whichever process has ended it.

This happens after the commit: if the process dies in between, nothing is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from backbeat_celery.inputs.redaction import node_secrets, scrub
from backbeat_celery.models import Node

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Failure:
    """A node that has just become failed."""

    node_id: UUID
    workflow_id: UUID
    name: str
    task: str
    attempt: int
    why: str
    """Why the last attempt failed, without secrets."""
    cause: BaseException | None = None
    """The handler's exception, if this process called it and its traceback contains no secrets."""

    @classmethod
    def of(cls, node: Node, reason: str, error: str | None) -> Failure:
        """Describe the failure of a node whose row is written."""
        why = reason if not error else f"{reason}: {scrub(error, node_secrets(node), '***')}"
        return cls(node.pk, node.workflow_id, node.name, node.task, node.attempt, why)


def log_failures(failures: Iterable[Failure]) -> None:
    """Log an error for each failure, with the node's ids as extra fields."""
    for failure in failures:
        logger.error(
            "Node %s %s has failed after attempt %d, %s",
            failure.name,
            failure.node_id,
            failure.attempt,
            failure.why,
            exc_info=failure.cause,
            extra={
                "node_id": failure.node_id,
                "workflow_id": failure.workflow_id,
                "attempt": failure.attempt,
                "task": failure.task,
            },
        )
