"""A workflow: one tree about one subject."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from backbeat_celery.exceptions import WorkflowClosed
from backbeat_celery.fields import ExactCharField
from backbeat_celery.ids import uuid7
from backbeat_celery.late import late
from backbeat_celery.models.node import Node, node_alias
from backbeat_celery.querysets import WorkflowManager
from backbeat_celery.states import Mode, Status

_signal_workflow = late("backbeat_celery.verbs", "signal_workflow")


class Workflow(models.Model):
    """One run of a workflow. Its root node has the same id as the workflow itself."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = ExactCharField(max_length=255)
    subject = ExactCharField(max_length=255, db_index=True)
    run = models.PositiveIntegerField()
    # True while the root is not finished, NULL afterwards: with it the unique constraint
    # allows one unfinished run and any number of finished ones on every database.
    unfinished = models.BooleanField(null=True, default=True, editable=False)
    paused_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    metadata = models.JSONField(default=dict, blank=True)

    objects = WorkflowManager()

    class Meta:
        verbose_name = _("workflow")
        verbose_name_plural = _("workflows")
        constraints = [
            models.UniqueConstraint(
                fields=["name", "subject", "unfinished"], name="backbeat_one_unfinished_run"
            ),
            models.UniqueConstraint(fields=["name", "subject", "run"], name="backbeat_run"),
        ]

    def __str__(self) -> str:
        return f"{self.name} for {self.subject}, run {self.run}"

    @property
    def alias(self) -> str:
        """The database that this row was read from."""
        return self._state.db or node_alias()

    @cached_property
    def root(self) -> Node:
        """The node that is the parent of all signals."""
        return Node.objects.using(self.alias).get(pk=self.pk)

    def create_root(self) -> None:
        """Insert the root of this new workflow."""
        self.root = Node.objects.using(self.alias).create(
            id=self.pk,
            workflow_id=self.pk,
            name=self.name,
            seq=0,
            stage=0,
            mode=Mode.NON_BLOCKING,
            status=Status.WAITING,
            created_at=self.created_at,
        )

    def refuse_if_closed(self) -> None:
        """Raise WorkflowClosed if this run takes no more signals."""
        if self.closed_at is not None:
            raise WorkflowClosed(
                f"{self} was closed at {self.closed_at:%Y-%m-%d %H:%M:%S}. "
                "Once its root is finished, signal() opens the next run."
            )

    def signal(self, signature: Any, **options: Any) -> Node:
        """Add a signal to this very run; takes what `backbeat_celery.signal` takes.

        Raises WorkflowClosed once the run is closed, also when a newer run is open.
        """
        node: Node = _signal_workflow(self, signature, **options)
        return node
