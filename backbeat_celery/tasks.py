"""Celery tasks for schedules, found by `autodiscover_tasks()`, and those for remote nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from celery import shared_task
from django.db import Error as DatabaseTrouble
from django.db import InterfaceError, OperationalError

from backbeat_celery.beat.start import FiredTask, Firing, Start, start
from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.after_commit import ADVANCE, DISPATCH, AfterCommit
from backbeat_celery.engine.external import remote
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.exceptions import BackbeatError, BadToken, InvalidTransition
from backbeat_celery.models import node_alias
from backbeat_celery.notifications import mail
from backbeat_celery.retention.purge import purge as purge_database
from backbeat_celery.verbs.reports import take_remote_failure, take_remote_result
from backbeat_celery.worker.current_run import run_of
from backbeat_celery.worker.task import NodeTask

logger = logging.getLogger(__name__)


REPORT: dict[str, Any] = {
    "ignore_result": True,
    # A report that is redelivered finds its attempt ended, and changes nothing.
    "acks_late": True,
    "autoretry_for": (DatabaseTrouble,),
    "retry_backoff": True,
    "max_retries": 10,
}


@shared_task(name="backbeat.sweep", ignore_result=True)
def sweep() -> None:
    """Make one repair pass; for a beat schedule beside the workers' own sweepers."""
    for using in settings.databases or [node_alias()]:
        Sweep(using).run()


@shared_task(
    name="backbeat.signal",
    base=FiredTask,
    bind=True,
    # A wrong argument is reported in the log of the worker.
    typing=False,
    ignore_result=True,
    # A start that was taken by a worker which then died, or found no database, is not lost.
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(OperationalError, InterfaceError),
    max_retries=None,
    retry_backoff=2,
    retry_backoff_max=300,
)
def signal_on_schedule(self: FiredTask, *args: Any, **options: Any) -> str:
    """Start a workflow, or add a signal to it, once for each period of a beat schedule.

    Takes `task` and `subject`, and of the options of `signal()` those that JSON can carry.
    """
    firing = Firing.of(self.request)
    try:
        node = start(Start.of(args, options), firing)
    except BackbeatError as exc:
        logger.error("The schedule %r has started nothing: %s", firing.schedule, exc)
        raise
    return str(node.pk)


@shared_task(
    name="backbeat.mail_failure",
    ignore_result=True,
    # An SMTPException is an OSError.
    autoretry_for=(OSError, OperationalError, InterfaceError),
    max_retries=5,
    retry_backoff=30,
)
def mail_failure(node_id: str, using: str) -> None:
    """Write to ADMINS about a failed node."""
    mail.send(UUID(node_id), using)


@shared_task(name="backbeat.purge", ignore_result=True)
def purge(
    days: float | None = None, batch: int = 500, dry_run: bool = False, using: str | None = None
) -> None:
    """Delete what has been finished for longer than the retention, or for that many days."""
    for alias in [using] if using else settings.databases or [node_alias()]:
        found = purge_database(alias, days=days, batch=batch, dry_run=dry_run)
        if dry_run:
            logger.info("A purge of %s would delete: %s", alias, found)


@shared_task(name=ADVANCE, ignore_result=True)
def go_on(using: str, due_flags: Sequence[str] = (), maybe_complete: Sequence[str] = ()) -> None:
    """Go on with a climb that was too long for one process; the sweeper would, too."""
    flags, nodes = [UUID(pk) for pk in due_flags], [UUID(pk) for pk in maybe_complete]
    advance(AfterCommit(due_flags=flags, maybe_complete=nodes), using)


@shared_task(name=DISPATCH, base=NodeTask, bind=True)
def dispatch(self: Any, /, *args: Any, **kwargs: Any) -> None:
    """Hand the running node's call to the workers of another code base."""
    del args, kwargs  # they are in the claim, too
    run = run_of(self.request)
    if run is not None:
        remote.dispatch(run.claim)


@shared_task(name=remote.REMOTE_DONE, **REPORT)
def remote_done(result: Any, *, token: str) -> None:
    """Take what a remote task returned; sent by the worker that ran it."""
    _take(take_remote_result, token, result)


# The token is keyword-only: a worker of another project that has this package, too, would call
# an errback of two arguments by itself instead of sending it to us.
@shared_task(name=remote.REMOTE_FAILED, **REPORT)
def remote_failed(task_id: str, *, token: str) -> None:
    """Take note that a remote task has failed; sent by the worker that ran it."""
    _take(take_remote_failure, token, task_id)


def _take(record: Callable[[str, Any], None], token: str, said: Any) -> None:
    try:
        record(token, said)
    except BadToken as exc:
        logger.warning("Dropping a report of a remote task: %s", exc)
    except InvalidTransition as exc:
        logger.warning("Dropping a late report of a remote task: %s", exc)
