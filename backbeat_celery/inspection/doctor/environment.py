"""What the tables depend on: a sweeper, lock timeouts, and workers that know the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.db.models import DateTimeField, ExpressionWrapper, Min, Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.delivery.broker_probe import broker_probe
from backbeat_celery.engine.delivery.queue_depth import due_by_queue
from backbeat_celery.engine.publish_times import LONGEST_INTERVAL
from backbeat_celery.engine.repair.heartbeats import consumed_queues
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.inspection.doctor.check import Finding
from backbeat_celery.models import Node, SweeperLease
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.lock_timeouts import missing_idle_timeout
from backbeat_celery.states import CLAIMABLE

SILENCE = 60.0
"""Seconds without a pass that are normal."""


def environment_findings(using: str) -> Iterator[Finding]:
    """Find problems outside the tables: no sweeper, a task that no worker knows."""
    yield from _overdue(using)
    if not clock.is_simulated():
        yield from _no_sweeper(using)
        yield from _no_lock_timeout(using)
    yield from _refused_tasks(using)
    yield from _unregistered_tasks(using)
    yield from _queues_without_worker(using)


def _max_silence() -> float:
    return max(SILENCE, settings.sweep_interval * 6)


def _unfinished(using: str) -> NodeQuerySet:
    return Node.objects.using(using).unfinished()


def _overdue(using: str) -> Iterator[Finding]:
    """Nodes that are due, and that no sweep has handled."""
    for column, what, leeway in (
        # A long queue delays the next message by that long.
        ("publish_at", "are due for a message", LONGEST_INTERVAL),
        ("lease_expires_at", "have lost their workers", 0),
        ("times_out_at", "are past their time limit", 0),
    ):
        before = clock.after(-_max_silence() - leeway)
        rows = _unfinished(using).filter(**{f"{column}__lte": before})
        if count := rows.count():
            since = rows.aggregate(first=Min(column))["first"]
            yield Finding(
                "overdue",
                5,
                f"{count} nodes",
                f"{what} since {since:%Y-%m-%d %H:%M:%S %Z}, and no sweep has handled them",
                "Start a worker, or run backbeat_sweep; its log says what it cannot repair.",
            )


def _no_sweeper(using: str) -> Iterator[Finding]:
    if not _unfinished(using).claimable().exists():
        return
    age = ExpressionWrapper(clock.now(), output_field=DateTimeField())
    row = SweeperLease.objects.using(using).annotate(db_now=age).first()
    advice = "Start a worker, or put backbeat.sweep on a schedule."
    if row is None or row.swept_at is None:
        yield Finding("no-sweeper", 5, "the sweeper", "was never seen", advice, False)
        return
    silence: timedelta = vars(row)["db_now"] - row.swept_at
    if silence.total_seconds() > _max_silence():
        problem = f"was last seen at {row.swept_at:%Y-%m-%d %H:%M:%S %Z}"
        yield Finding("no-sweeper", 5, "the sweeper", problem, advice, False)


def _no_lock_timeout(using: str) -> Iterator[Finding]:
    """A worker that is cut off in a transaction may keep its row locks for hours."""
    if name := missing_idle_timeout(using):
        advice = "Set it to a minute or so: docs/production.md."
        yield Finding("no-lock-timeout", 5, name, "is not set", advice, False)


def _refused_tasks(using: str) -> Iterator[Finding]:
    """Tasks that a worker received and did not know."""
    refused = Node.objects.using(using).claimable().filter(times_out_at__isnull=False)
    for task in refused.order_by("task").values_list("task", flat=True).distinct():
        yield Finding(
            "refused-task",
            5,
            f"task {task}",
            "is unknown to a worker that received it",
            "Deploy it there, or route it to a queue whose workers have it.",
        )


def _unregistered_tasks(using: str) -> Iterator[Finding]:
    """Tasks that are not registered in this process, which imports what workers import."""
    waiting = _unfinished(using).filter(status__in=CLAIMABLE, remote=False)
    names = waiting.exclude(Q(task="")).order_by("task").values_list("task", flat=True)
    for task in names.distinct():
        if known_task(task) is None:
            yield Finding(
                "unregistered-task",
                5,
                f"task {task}",
                "is not registered in this process",
                "This is no problem if the workers have it.",
                False,
            )


def _queues_without_worker(using: str) -> Iterator[Finding]:
    """Queues with due nodes that no worker consumes."""
    heard = consumed_queues(using)
    if heard is None:
        return
    now = Q(fires_at=None) | Q(fires_at__lte=clock.now())
    due = due_by_queue(_unfinished(using).claimable().filter(now))
    for queue in sorted(due.keys() - heard - {""}):
        state = None if clock.is_simulated() else broker_probe.queue(queue)
        if state is None or not state.consumers:
            yield Finding(
                "queue-without-worker",
                5,
                f"queue {queue}",
                f"has {due[queue]} due nodes, and no known worker listens to it",
                f"Start a worker with -Q {queue}, or route the tasks to a queue that has workers.",
                False,
            )
