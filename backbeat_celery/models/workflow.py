"""A workflow: one tree about one subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from django.core.checks import CheckMessage
from django.db import models
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from backbeat_celery.exceptions import WorkflowClosed
from backbeat_celery.models.fields import (
    HARMLESS,
    ExactCharField,
    MetadataField,
    PostgresPartialIndex,
    PostgresPartialUnique,
)
from backbeat_celery.models.node import Node, node_alias
from backbeat_celery.models.querysets import WorkflowManager
from backbeat_celery.models.tree_mixin import TreeMixin
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.states import Mode, Status

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from backbeat_celery.api import RunSignalOptions
    from backbeat_celery.typing import Actor, TaskOrSignature


class Workflow(TreeMixin, models.Model):
    """One run of a workflow. Its root node has the same id as the workflow itself."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = ExactCharField(max_length=255)
    subject = ExactCharField(max_length=255)
    run = models.IntegerField()
    # True while the root is not finished, NULL afterwards: with it the unique constraint
    # allows one unfinished run and any number of finished ones on every database.
    unfinished = models.BooleanField(null=True, default=True, editable=False)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    pause_reason = models.CharField(max_length=255, blank=True, default="", db_default="")
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    close_reason = models.CharField(max_length=255, blank=True, default="", db_default="")
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    metadata = MetadataField(default=dict, blank=True)

    if TYPE_CHECKING:
        nodes: RelatedManager[Node]  # for type checkers without the plugin of django-stubs

    objects = WorkflowManager()

    class Meta:
        verbose_name = _("workflow")
        verbose_name_plural = _("workflows")
        default_permissions = ("view", "delete")
        permissions = [
            ("pause_workflow", _("Can pause workflows")),
            ("resume_workflow", _("Can resume workflows")),
            ("close_workflow", _("Can close workflows")),
            ("cancel_workflow", _("Can cancel everything in workflows")),
            ("signal_workflow", _("Can run tasks with any arguments by signals to workflows")),
        ]
        constraints = [
            PostgresPartialUnique(
                fields=["name", "subject", "unfinished"],
                condition=models.Q(unfinished__isnull=False),
                name="backbeat_one_unfinished_run",
            ),
            models.UniqueConstraint(fields=["name", "subject", "run"], name="backbeat_run"),
        ]
        indexes = [
            # Its operators answer PostgreSQL's = as well as LIKE: one index instead of two.
            models.Index(
                fields=["subject"],
                opclasses=["varchar_pattern_ops"],
                name="backbeat_workflow_subject",
            ),
            PostgresPartialIndex(
                fields=["finished_at"],
                condition=models.Q(finished_at__isnull=False),
                name="backbeat_workflow_ended",
            ),
            # For lists, newest first: the ids are ordered by time.
            models.Index(fields=["name", "id"], name="backbeat_workflow_name"),
            models.Index(fields=["created_at"], name="backbeat_workflow_age"),
            PostgresPartialIndex(
                fields=["unfinished", "id"],
                condition=models.Q(unfinished=True),
                name="backbeat_workflow_open",
            ),
            PostgresPartialIndex(
                fields=["paused_at"],
                condition=models.Q(paused_at__isnull=False),
                name="backbeat_workflow_paused",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} for {self.subject}, run {self.run}"

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Check the model, but for what `fields` knows of MySQL."""
        return [message for message in super().check(**kwargs) if message.id not in HARMLESS]

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

    def explain(self) -> str:
        """Say in one sentence what this workflow waits for."""
        from backbeat_celery.inspection.explain import explain_workflow

        return explain_workflow(self)

    def signal(self, signature: TaskOrSignature, **options: Unpack[RunSignalOptions]) -> Node:
        """Add a signal to this very run.

        Takes the options of `signal()`, but for `subject`, `name` and `using`.

        Raises WorkflowClosed once the run is closed, also when a newer run is open.
        """
        from backbeat_celery import verbs

        return verbs.signal_workflow(self, signature, **options)

    # The verbs: `by` is a user or a text that is kept with what was done.

    def pause(self, *, by: Actor = None, reason: str = "") -> None:
        """Let nothing new start in this run; what a running handler reports is accepted."""
        from backbeat_celery import verbs

        verbs.pause(self, by=by, reason=reason)

    def resume(self, *, by: Actor = None, reason: str = "") -> None:
        """Let this run go on; what fell due meanwhile runs at once."""
        from backbeat_celery import verbs

        verbs.resume(self, by=by, reason=reason)

    def close(self, *, by: Actor = None, reason: str = "") -> None:
        """Take no more signals; the run is finished when all that counts in it is."""
        from backbeat_celery import verbs

        verbs.close(self, by=by, reason=reason)

    def cancel(self, *, by: Actor = None, reason: str = "") -> None:
        """Cancel every unfinished node but the root; the workflow stays open."""
        from backbeat_celery import verbs

        verbs.cancel_workflow(self, by=by, reason=reason)

    def delete(
        self,
        using: str | None = None,
        keep_parents: bool = False,
        *,
        by: Actor = None,
        reason: str = "",
    ) -> tuple[int, dict[str, int]]:
        """Cancel what is unfinished, then delete this run with its nodes and their history.

        Handlers that run are not stopped; what they report is discarded. Nodes of other
        workflows that waited for this one go on. Gives what Django's `delete()` gives: how many
        rows, and how many of each model.
        """
        del keep_parents  # nothing is inherited here
        from backbeat_celery import verbs

        return verbs.delete_workflow(self, using=using, by=by, reason=reason)
