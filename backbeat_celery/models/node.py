"""A node: one step of a workflow, and everything the engine must know about it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.checks import CheckMessage
from django.db import models, router
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from backbeat_celery.models.fields import (
    HARMLESS,
    ExactCharField,
    MetadataField,
    PayloadField,
    PostgresOnlyIndex,
    PostgresPartialIndex,
    PostgresPartialUnique,
)
from backbeat_celery.models.node_verbs import NodeVerbs
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.states import (
    COUNTING,
    FINISHED,
    Container,
    Input,
    Mode,
    Outcome,
    Status,
    Yields,
)

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    from backbeat_celery.models.history import Attempt, Transition


# The indexes below are conditioned on columns that no guarded UPDATE names: PostgreSQL, when
# its statistics are stale, takes a partial index that it may use for small, and then reads all
# open nodes to find one.
IS_UNFINISHED = Q(finished_at__isnull=True)


class Node(NodeVerbs, models.Model):
    """One step: a signal, a child, a flag, or the root of a workflow.

    Only `backbeat_celery.models.transitions` writes `status`.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No foreign key in the database: checking it would lock the workflow's row at each
    # insert, and that row would become the bottleneck of every tree.
    workflow = models.ForeignKey(
        "backbeat_celery.Workflow",
        on_delete=models.CASCADE,
        related_name="nodes",
        db_constraint=False,
        db_index=False,
    )
    parent = models.ForeignKey(
        "self", on_delete=models.CASCADE, related_name="children", null=True, db_index=False
    )
    # The parent while it waits for this node; NULL once the node is finished, and always for
    # fire_and_forget. A join is one lookup in this column's index, at any width and with any
    # statistics.
    awaited_by = models.UUIDField(null=True, editable=False)
    # Counts are never negative, and are no PositiveIntegerField: PostgreSQL reads the text of
    # each check of a table anew in each statement that writes a row.
    seq = models.IntegerField()
    stage = models.IntegerField()
    barrier = models.BooleanField(default=False)
    # Called because its parent's retries were exhausted; it runs although the parent is failed.
    rescue = models.BooleanField(default=False, db_default=False)
    # Run by workers of another code base, which know neither this package nor this database.
    remote = models.BooleanField(default=False, db_default=False)
    # Done when `complete()` or `fail()` says so, not when its handler returns.
    awaits_completion = models.BooleanField(default=False, db_default=False)
    # The form of a canvas that this node is: it calls no handler and has children.
    container = models.CharField(
        max_length=5, choices=Container.choices, blank=True, default="", db_default=""
    )
    # What the handler gets as its first argument, and what the node's value is. Values are read
    # from the rows of other nodes when an attempt is claimed; nothing is copied.
    input = models.SmallIntegerField(choices=Input.choices, default=0, db_default=0)
    yields = models.SmallIntegerField(choices=Yields.choices, default=0, db_default=0)
    # The id that the caller has chosen: `request.id` of every attempt.
    celery_id = ExactCharField(max_length=255, null=True)
    task = ExactCharField(max_length=255, blank=True)
    name = ExactCharField(max_length=255)
    mode = models.CharField(max_length=15, choices=Mode.choices)
    status = models.CharField(max_length=10, choices=Status.choices)
    outcome = models.CharField(
        max_length=10, choices=Outcome.choices, blank=True, default="", db_default=""
    )
    attempt = models.IntegerField(default=0, db_default=0)
    retries = models.IntegerField(default=0, db_default=0)
    lost_attempts = models.IntegerField(default=0, db_default=0)
    claim_id = models.UUIDField(null=True, editable=False)
    # The Celery id of the message that the running attempt came with.
    task_id = ExactCharField(max_length=255, null=True, editable=False)
    args = PayloadField(default=list)
    kwargs = PayloadField(default=dict)
    options = models.JSONField(default=dict)
    metadata = MetadataField(default=dict)
    result = PayloadField(null=True)
    error = models.TextField(null=True)
    # A report that came while the handler still ran; the record applies it.
    report = PayloadField(null=True, editable=False)
    # The handler's last progress: done, total, message and time.
    progress = PayloadField(null=True)
    key = ExactCharField(max_length=255, null=True)
    spawned_by = models.IntegerField(null=True)
    fires_at = models.DateTimeField(null=True)
    # Canceled if no attempt has begun by then.
    expires_at = models.DateTimeField(null=True)
    publish_at = models.DateTimeField(null=True)
    publish_count = models.IntegerField(default=0, db_default=0)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    times_out_at = models.DateTimeField(null=True)
    worker = ExactCharField(max_length=255, blank=True, default="", db_default="")
    next_seq = models.IntegerField(default=0, db_default=0)
    next_stage = models.IntegerField(default=0, db_default=0)
    next_barrier = models.IntegerField(null=True)

    if TYPE_CHECKING:
        # What Django makes of relations, for type checkers without the plugin of django-stubs.
        workflow_id: UUID
        parent_id: UUID | None
        children: RelatedManager[Node]
        # Annotations that some query sets add.
        db_now: datetime
        open_child: UUID | None
        is_paused: bool
        is_held: bool

    objects = NodeQuerySet.as_manager()

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")
        default_permissions = ("view",)
        permissions = [
            ("retry_node", _("Can retry nodes")),
            ("resolve_node", _("Can resolve failed nodes")),
            ("shutdown_node", _("Can shut failed nodes down")),
            ("cancel_node", _("Can cancel nodes")),
            ("reset_node", _("Can reset nodes")),
            ("edit_arguments_node", _("Can run failed nodes again with any arguments")),
            ("view_payload_node", _("Can view arguments and results in full")),
        ]
        constraints = [
            models.UniqueConstraint(fields=["parent", "seq"], name="backbeat_node_seq"),
            PostgresPartialUnique(
                fields=["parent", "key"],
                condition=Q(key__isnull=False),
                name="backbeat_node_key",
            ),
        ]
        indexes = [
            PostgresPartialIndex(
                fields=["awaited_by", "mode", "seq"],
                condition=Q(awaited_by__isnull=False),
                name="backbeat_awaited",
            ),
            PostgresPartialIndex(
                fields=["status", "id"], condition=IS_UNFINISHED, name="backbeat_status"
            ),
            # Finished nodes are many and the canceled few of them: elsewhere the index before
            # this one has them all.
            PostgresOnlyIndex(
                fields=["id"], condition=Q(status=Status.CANCELED), name="backbeat_canceled"
            ),
            # A workflow's open nodes, how many are done, and when the last one was.
            models.Index(fields=["workflow", "finished_at"], name="backbeat_standing"),
            PostgresPartialIndex(
                fields=["publish_at"], condition=Q(publish_at__isnull=False), name="backbeat_due"
            ),
            PostgresPartialIndex(
                fields=["lease_expires_at"],
                condition=Q(lease_expires_at__isnull=False),
                name="backbeat_lease",
            ),
            PostgresPartialIndex(
                fields=["times_out_at"],
                condition=Q(times_out_at__isnull=False),
                name="backbeat_timeout",
            ),
            # Those with a lease are few, and are found among the leases: see `for_task_id()`.
            PostgresPartialIndex(
                fields=["task_id"],
                condition=Q(task_id__isnull=False, lease_expires_at=None),
                name="backbeat_task_id",
            ),
            PostgresPartialIndex(
                fields=["celery_id"],
                condition=Q(celery_id__isnull=False),
                name="backbeat_celery_id",
            ),
            PostgresPartialIndex(
                fields=["expires_at"],
                condition=Q(expires_at__isnull=False),
                name="backbeat_expiry",
            ),
            PostgresPartialIndex(
                fields=["next_barrier"],
                condition=Q(next_barrier__isnull=False),
                name="backbeat_barrier",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.status})"

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Check the model, but for what `fields` knows of MySQL."""
        return [message for message in super().check(**kwargs) if message.id not in HARMLESS]

    @property
    def alias(self) -> str:
        """The database that this row was read from."""
        return self._state.db or node_alias()

    @property
    def is_root(self) -> bool:
        """Whether this is the workflow's own node, the parent of its signals."""
        return self.parent_id is None

    @property
    def is_flag(self) -> bool:
        """Whether this node calls no handler and is done when its turn comes."""
        return not self.task and not self.container and not self.is_root

    @property
    def is_container(self) -> bool:
        """Whether this node is a chain, a group or a chord: it has children and no handler."""
        return bool(self.container)

    @property
    def shown_id(self) -> str:
        """The id that callers and handlers know it by: the one they chose, or the node's own."""
        return self.celery_id or str(self.pk)

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED

    @property
    def awaits_report(self) -> bool:
        """Whether `complete()` or `fail()` ends an attempt, and not its handler's return."""
        return self.awaits_completion or self.remote

    @property
    def is_blocking(self) -> bool:
        return self.mode == Mode.BLOCKING

    @property
    def counts(self) -> bool:
        """Whether the parent waits for this node."""
        return self.mode in COUNTING

    @property
    def history(self) -> list[Transition]:
        """Every change of status in order, beginning with the node's creation."""
        from backbeat_celery.inspection.tree import history

        return history(self)

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt in order, the running one included."""
        from backbeat_celery.inspection.tree import attempts

        return attempts(self)


class Link(models.Model):
    """`source` waits until `target`, a signal of another workflow, is finished."""

    source = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="outgoing_links")
    target = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="incoming_links")
    # The target was seen to be finished and need not be checked again.
    settled = models.BooleanField(default=False, db_default=False, editable=False)

    class Meta:
        verbose_name = _("link")
        verbose_name_plural = _("links")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["source", "target"], name="backbeat_link")]
        indexes = [models.Index(fields=["source", "settled", "id"], name="backbeat_open_link")]

    def __str__(self) -> str:
        return f"{self.source_id} waits for {self.target_id}"


def node_alias() -> str:
    """Name the database that new workflows are written to."""
    return router.db_for_write(Node)
