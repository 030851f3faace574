"""The history of a node: every change of status, and every attempt."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from backbeat_celery.models.fields import ExactCharField, PayloadField, RecencyIndex
from backbeat_celery.models.node import Node
from backbeat_celery.runtime import clock
from backbeat_celery.states import AttemptOutcome, Status


class Transition(models.Model):
    """One change of a node's status, written in the same transaction as the change."""

    # No foreign key in the database for the two history tables: checking it would lock and
    # touch the node's row once more for each step of each node. Nodes are deleted through
    # the ORM alone, which deletes these rows, too.
    node = models.ForeignKey(
        Node, on_delete=models.CASCADE, related_name="transitions", db_constraint=False
    )
    from_status = models.CharField(max_length=10, choices=Status.choices, blank=True)
    to_status = models.CharField(max_length=10, choices=Status.choices)
    at = models.DateTimeField()
    attempt = models.IntegerField()
    actor = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=255, blank=True)

    class Meta:
        verbose_name = _("transition")
        verbose_name_plural = _("transitions")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.from_status or 'new'} → {self.to_status}"


class Attempt(models.Model):
    """One claim of a node that has ended; at most one row per node and number."""

    node = models.ForeignKey(
        Node,
        on_delete=models.CASCADE,
        related_name="ended_attempts",
        db_constraint=False,
        db_index=False,
    )
    number = models.IntegerField()
    claim_id = models.UUIDField(null=True)
    # The Celery id of its message: what logs and monitors show.
    task_id = ExactCharField(max_length=255, null=True, blank=True)
    worker = models.CharField(max_length=255, blank=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=10, choices=AttemptOutcome.choices, blank=True)
    error = models.TextField(null=True, blank=True)
    # The exception's class, with its module, and its arguments, if they can be stored: with these
    # `get()` and error callbacks make the exception again.
    error_type = models.CharField(max_length=255, blank=True, default="", db_default="")
    error_args = PayloadField(null=True, blank=True)
    traceback = models.TextField(null=True, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["node", "number"], name="backbeat_attempt_number")
        ]
        indexes = [
            RecencyIndex(fields=["finished_at"], name="backbeat_attempt_recent"),
            models.Index(fields=["task_id"], name="backbeat_attempt_task_id"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.outcome or 'running'}"

    @classmethod
    def running(cls, node: Node) -> Attempt:
        """Make the row of the attempt that a node runs, without saving it."""
        return cls(
            node_id=node.pk,
            number=node.attempt,
            claim_id=node.claim_id,
            task_id=node.task_id,
            worker=node.worker,
            started_at=node.started_at,
        )

    def ended(
        self,
        outcome: AttemptOutcome,
        *,
        error: str = "",
        error_type: str = "",
        error_args: list[Any] | None = None,
        trace: str = "",
    ) -> Attempt:
        """Complete the row of an attempt that ends now; the caller inserts it."""
        self.finished_at = clock.now()
        self.outcome = outcome
        self.error = error or None
        self.error_type = error_type
        self.error_args = error_args
        self.traceback = trace or None
        return self
