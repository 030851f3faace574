"""Named queries: filters of the engine, the doctor and the admin are written here, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import IntegrityError, connections, models, router, transaction
from django.db.models import DateTimeField, ExpressionWrapper, Model, OuterRef, Subquery
from django.utils import timezone

from backbeat_celery.exceptions import BackbeatError
from backbeat_celery.inputs.node_spec import check_name
from backbeat_celery.inputs.subject import subject_key
from backbeat_celery.runtime import clock
from backbeat_celery.states import CLAIMABLE, COUNTING, Mode, Status

if TYPE_CHECKING:
    from backbeat_celery.models import Node, Workflow


PAYLOAD = ("args", "kwargs", "result", "error", "metadata")
"""The columns that may be large."""

RACES = 10
"""How often the creation of a run is retried after a lost race."""


class NodeQuerySet(models.QuerySet["Node"]):
    """Queries of nodes."""

    def unfinished(self) -> NodeQuerySet:
        """Nodes that are neither complete nor canceled."""
        return self.filter(finished_at=None)

    def unfinished_in(self, workflow: UUID) -> NodeQuerySet:
        """Unfinished nodes of a workflow, its root left out."""
        return self.unfinished().filter(workflow_id=workflow, parent__isnull=False)

    def counting(self) -> NodeQuerySet:
        """Nodes that their parents wait for."""
        return self.filter(mode__in=COUNTING)

    def blocking(self) -> NodeQuerySet:
        """Nodes that hold back their later siblings."""
        return self.filter(mode=Mode.BLOCKING)

    def claimable(self) -> NodeQuerySet:
        """Nodes whose turn has come."""
        return self.filter(status__in=CLAIMABLE)

    def with_lease(self) -> NodeQuerySet:
        """Running nodes whose handler has not returned yet."""
        return self.filter(status=Status.RUNNING, lease_expires_at__isnull=False)

    def awaited_by(self, parent: UUID | OuterRef) -> NodeQuerySet:
        """Unfinished children that count: what a parent still waits for."""
        return self.filter(awaited_by=parent)

    def children_of(self, parent: UUID | OuterRef) -> NodeQuerySet:
        """Children of a node, given as an id or an outer reference."""
        return self.filter(parent_id=parent)

    def steps_before(self, parent: UUID | OuterRef, seq: int | OuterRef) -> NodeQuerySet:
        """Children that count before a place in the line, the last one first.

        In a chain and a chord that one's value is handed on to what stands at the place.
        """
        return self.children_of(parent).counting().filter(seq__lt=seq).order_by("-seq")

    def for_task_id(self, task_id: str) -> NodeQuerySet:
        """Nodes with this Celery id, chosen by the caller or of the message of an attempt.

        Looked up first, one by one: as one condition these would be answered by reading every
        row.
        """
        begun = self.model.objects.using(self.db).filter(task_id=task_id).values_list("pk")
        attempts = self.model._meta.get_field("ended_attempts").related_model
        ended = attempts._default_manager.using(self.db).filter(task_id=task_id)
        chosen = self.model.objects.using(self.db).filter(celery_id=task_id).values_list("pk")
        questions = [
            chosen,
            begun.filter(lease_expires_at__isnull=False),
            begun.filter(lease_expires_at=None),
            ended.values_list("node"),
        ]
        return self.filter(pk__in={pk for rows in questions for (pk,) in rows})

    def signals_with_key(self, runs: models.QuerySet[Workflow], key: str) -> NodeQuerySet:
        """Signals of these runs that have this key, the newest run's first."""
        found = self.filter(parent__in=runs.values("pk"), key=key)
        return found.order_by("-workflow__run")

    def locked(self) -> NodeQuerySet:
        """The same rows, locked until the transaction ends.

        The lock leaves out the key, so that rows which refer to this one can still be inserted.
        """
        features = connections[self.db].features
        return self.select_for_update(no_key=features.has_select_for_no_key_update)

    def free(self) -> NodeQuerySet:
        """Those of the rows that no other transaction has locked, locked until this one ends."""
        features = connections[self.db].features
        return self.select_for_update(
            no_key=features.has_select_for_no_key_update,
            skip_locked=features.has_select_for_update_skip_locked,
        )

    def with_time(self) -> NodeQuerySet:
        """Annotate `db_now`: the engine's time when the row was read."""
        now = ExpressionWrapper(clock.now(), output_field=DateTimeField())
        rows: NodeQuerySet = self.annotate(db_now=now)  # type: ignore[no-redef]
        return rows

    def without_payload(self) -> NodeQuerySet:
        """Rows without the columns that may be large, where only the status matters."""
        return self.defer(*PAYLOAD, "options")

    def with_open_child(self) -> NodeQuerySet:
        """Annotate `open_child`: the id of a child that counts and is unfinished, if any."""
        first = self.model.objects.awaited_by(OuterRef("pk")).first_awaited()
        rows: NodeQuerySet = self.annotate(open_child=Subquery(first))  # type: ignore[no-redef]
        return rows

    def first_awaited(self) -> models.QuerySet[Node, UUID]:
        """Give the id of one of these awaited children, if there is any: true or false.

        The order makes every plan but the one by the index of `awaited_by` expensive. With a
        bare LIMIT 1, as `exists()` has, PostgreSQL may choose a sequential scan, since it
        expects to meet one of many soon.
        """
        return self.order_by("awaited_by", "mode", "seq").values_list("pk", flat=True)[:1]


class WorkflowManager(models.Manager["Workflow"]):
    """Finds workflows by their subject."""

    use_in_migrations = False

    def for_subject(self, subject: Model | str, name: str) -> Workflow:
        """Get the unfinished run for `(name, subject)`, or open the next one.

        Raises WorkflowClosed while the run is closed and not finished yet.
        """
        workflow = self.open_run(subject_key(subject), check_name(name, "workflow"))
        workflow.refuse_if_closed()
        return workflow

    def open_run(self, subject: str, name: str) -> Workflow:
        """Get or create the one unfinished run, also when two callers create it at once."""
        unfinished = self.using(self.write_alias).filter(
            name=name, subject=subject, unfinished=True
        )
        for _ in range(RACES):
            if workflow := unfinished.first():
                return workflow
            try:
                with transaction.atomic(using=self.write_alias):
                    return self._create_run(subject, name)
            except IntegrityError:
                continue  # another transaction created it between the query and the insert
        raise BackbeatError(
            f"The open run of {name!r} for {subject!r} exists but cannot be seen from this "
            "transaction. Signal from a transaction with the isolation level READ COMMITTED."
        )

    @property
    def write_alias(self) -> str:
        """The database that this manager writes to."""
        alias: str = self._db or router.db_for_write(self.model)
        return alias

    def _create_run(self, subject: str, name: str) -> Workflow:
        runs = self.using(self.write_alias).filter(name=name, subject=subject)
        latest: dict[str, Any] = runs.aggregate(latest=models.Max("run"))
        workflow = self.using(self.write_alias).create(
            name=name,
            subject=subject,
            run=(latest["latest"] or 0) + 1,
            created_at=clock.simulated_now() if clock.is_simulated() else timezone.now(),
        )
        workflow.create_root()
        return workflow
