"""The package's own Celery tasks, found by `autodiscover_tasks()`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from celery import shared_task
from django.db import Error as AnyDatabaseError
from django.db import InterfaceError, OperationalError

from backbeat_celery.beat.start import FiredTask, Firing, Start, start
from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.after_commit import ADVANCE, DISPATCH, AfterCommit
from backbeat_celery.engine.external import remote
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.exceptions import BackbeatError, BadToken, InvalidTransition
from backbeat_celery.inputs.mapped_tasks import MAP, STARMAP
from backbeat_celery.inputs.node_spec import registered_task
from backbeat_celery.models import node_alias
from backbeat_celery.notifications import mail
from backbeat_celery.retention.purge import purge as purge_database
from backbeat_celery.verbs.reports import take_remote_failure, take_remote_result
from backbeat_celery.worker.current_run import run_of
from backbeat_celery.worker.task import NodeTask

logger = logging.getLogger(__name__)


REPORT: dict[str, Any] = {
    "ignore_result": True,
    # A redelivered report finds its attempt ended, and changes nothing.
    "acks_late": True,
    "autoretry_for": (AnyDatabaseError,),
    "retry_backoff": True,
    "max_retries": 10,
}


@shared_task(name="backbeat.sweep", ignore_result=True)
def sweep() -> None:
    """Run one sweeper pass; for a beat schedule, in addition to the workers' own sweepers."""
    for using in settings.databases or [node_alias()]:
        Sweep(using).run()


@shared_task(
    name="backbeat.signal",
    base=FiredTask,
    bind=True,
    # A wrong argument is reported in the log of the worker.
    typing=False,
    ignore_result=True,
    # A message is not lost if its worker dies or has no database.
    acks_late=True,
    reject_on_worker_lost=True,
    autoretry_for=(OperationalError, InterfaceError),
    max_retries=None,
    retry_backoff=2,
    retry_backoff_max=300,
)
def signal_on_schedule(self: FiredTask, *args: Any, **options: Any) -> str:
    """Start a workflow, or add a signal to it, once for each period of a beat schedule.

    Takes `task` or `canvas`, `subject`, and those options of `signal()` that JSON can represent.
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
    """Send an e-mail about a failed node to ADMINS."""
    mail.send(UUID(node_id), using)


@shared_task(name="backbeat.purge", ignore_result=True)
def purge(
    days: float | None = None, batch: int = 500, dry_run: bool = False, using: str | None = None
) -> None:
    """Delete what has been finished for longer than the retention, or than `days`."""
    for alias in [using] if using else settings.databases or [node_alias()]:
        found = purge_database(alias, days=days, batch=batch, dry_run=dry_run)
        if dry_run:
            logger.info("A purge of %s would delete: %s", alias, found)


@shared_task(name=ADVANCE, ignore_result=True)
def go_on(using: str, due_flags: Sequence[str] = (), maybe_complete: Sequence[str] = ()) -> None:
    """Continue to complete ancestors where one process had too many; the sweeper would, too."""
    flags, nodes = [UUID(pk) for pk in due_flags], [UUID(pk) for pk in maybe_complete]
    advance(AfterCommit(due_flags=flags, maybe_complete=nodes), using)


@shared_task(name=DISPATCH, base=NodeTask, bind=True)
def dispatch(self: Any, /, *args: Any, **kwargs: Any) -> None:
    """Send the running node's call to the workers of another code base."""
    del args, kwargs  # the claim has them, too
    run = run_of(self.request)
    if run is not None:
        remote.dispatch(run.claim)


@shared_task(name=remote.REMOTE_DONE, **REPORT)
def remote_done(result: Any, *, token: str) -> None:
    """Record the result of a remote task; sent by the worker that ran it."""
    _take(take_remote_result, token, result)


# The token is keyword-only: a worker of another project that also has this package would call an
# errback of two arguments itself instead of sending it here.
@shared_task(name=remote.REMOTE_FAILED, **REPORT)
def remote_failed(task_id: str, *, token: str) -> None:
    """Record that a remote task failed; sent by the worker that ran it."""
    _take(take_remote_failure, token, task_id)


def _take(record: Callable[[str, Any], None], token: str, value: Any) -> None:
    try:
        record(token, value)
    except BadToken as exc:
        logger.warning("Dropping a report of a remote task: %s", exc)
    except InvalidTransition as exc:
        logger.warning("Dropping a late report of a remote task: %s", exc)


@shared_task(name=MAP)
def map_items(task: str, it: Sequence[Any]) -> list[Any]:
    """Call a task with each item in turn, in this process: what Celery's `map` does."""
    called = registered_task(task)
    return [called(item) for item in it]


@shared_task(name=STARMAP)
def starmap_items(task: str, it: Sequence[Sequence[Any]]) -> list[Any]:
    """Call a task with the arguments of each item in turn: what Celery's `starmap` does."""
    called = registered_task(task)
    return [called(*item) for item in it]
