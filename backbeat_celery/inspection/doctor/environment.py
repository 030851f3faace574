"""What is around the tables: a sweeper that sees to what is due, workers that know the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import DateTimeField, ExpressionWrapper, Min, Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import LONGEST_INTERVAL
from backbeat_celery.engine.delivery.broker_probe import inquiry
from backbeat_celery.engine.delivery.queue_depth import due_by_queue
from backbeat_celery.engine.repair.heartbeats import heard_queues
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.inspection.doctor.check import Finding
from backbeat_celery.models import Node, SweeperLease
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.lock_timeouts import missing_limit
from backbeat_celery.states import CLAIMABLE

SILENCE = 60.0
"""Seconds without a pass that are taken for a pause."""


def check_environment(using: str) -> Iterator[Finding]:
    """Find what no row shows: nobody sweeps, or nobody knows a task."""
    yield from _not_swept(using)
    if not clock.is_simulated():
        yield from _silent_sweeper(using)
        yield from _endless_locks(using)
    yield from _refused_tasks(using)
    yield from _unknown_tasks(using)
    yield from _unheard_queues(using)


def _patience() -> float:
    return max(SILENCE, settings.sweep_interval * 6)


def _unfinished(using: str) -> NodeQuerySet:
    return Node.objects.using(using).unfinished()


def _not_swept(using: str) -> Iterator[Finding]:
    """Nodes whose time has come, and which no sweep has seen to."""
    for column, what, leeway in (
        # A long queue puts another message off for that long.
        ("publish_at", "are due for a message", LONGEST_INTERVAL),
        ("lease_expires_at", "have lost their workers", 0),
        ("times_out_at", "are over their time", 0),
    ):
        before = clock.after(-_patience() - leeway)
        rows = _unfinished(using).filter(**{f"{column}__lte": before})
        if count := rows.count():
            since = rows.aggregate(first=Min(column))["first"]
            yield Finding(
                "not-swept",
                5,
                f"{count} nodes",
                f"{what} since {since:%Y-%m-%d %H:%M:%S %Z}, and no sweep has seen to it",
                "Start a worker, or run backbeat_sweep; its log says what it cannot mend.",
            )


def _silent_sweeper(using: str) -> Iterator[Finding]:
    if not _unfinished(using).claimable().exists():
        return
    age = ExpressionWrapper(clock.now(), output_field=DateTimeField())
    row = SweeperLease.objects.using(using).annotate(db_now=age).first()
    advice = "Start a worker, or put backbeat.sweep on a schedule."
    if row is None or row.swept_at is None:
        yield Finding("sweeper", 5, "the sweeper", "was never seen", advice, False)
        return
    silence: timedelta = vars(row)["db_now"] - row.swept_at
    if silence.total_seconds() > _patience():
        problem = f"was last seen at {row.swept_at:%Y-%m-%d %H:%M:%S %Z}"
        yield Finding("sweeper", 5, "the sweeper", problem, advice, False)


def _endless_locks(using: str) -> Iterator[Finding]:
    """A worker that is cut off in a transaction keeps its row locks, for hours perhaps."""
    if name := missing_limit(using):
        advice = "Set it to a minute or so: docs/production.md."
        yield Finding("endless-locks", 5, name, "is not set", advice, False)


def _refused_tasks(using: str) -> Iterator[Finding]:
    """Tasks that a worker was asked for and did not know."""
    refused = Node.objects.using(using).claimable().filter(times_out_at__isnull=False)
    for task in refused.order_by("task").values_list("task", flat=True).distinct():
        yield Finding(
            "refused-task",
            5,
            f"task {task}",
            "is unknown to a worker that was asked for it",
            "Deploy it there, or route it to a queue whose workers have it.",
        )


def _unknown_tasks(using: str) -> Iterator[Finding]:
    """Tasks that this very process does not know, though it has imported what workers do."""
    waiting = _unfinished(using).filter(status__in=CLAIMABLE, remote=False)
    names = waiting.exclude(Q(task="")).order_by("task").values_list("task", flat=True)
    for task in names.distinct():
        if known_task(task) is None:
            yield Finding(
                "unknown-task",
                5,
                f"task {task}",
                "is not registered in this process",
                "If workers know it, all is well.",
                False,
            )


def _unheard_queues(using: str) -> Iterator[Finding]:
    """Queues on which messages of nodes wait, and to which no worker listens."""
    heard = heard_queues(using)
    if heard is None:
        return
    now = Q(fires_at=None) | Q(fires_at__lte=clock.now())
    due = due_by_queue(_unfinished(using).claimable().filter(now))
    for queue in sorted(due.keys() - heard - {""}):
        state = None if clock.is_simulated() else inquiry.ask(queue)
        if state is None or not state.consumers:
            yield Finding(
                "unheard-queue",
                5,
                f"queue {queue}",
                f"has {due[queue]} due nodes, and no worker that was heard of listens to it",
                f"Start a worker with -Q {queue}, or route the tasks to a queue that has workers.",
                False,
            )
