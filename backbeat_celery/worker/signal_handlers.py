"""Receivers of Celery's signals. Each reads what happened and calls one function.

No result depends on them, since Celery ignores their exceptions and does not call them when a
process dies. Those in the worker's main process run in its event loop, so they only queue work
for a thread.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals
from celery.exceptions import Retry

from backbeat_celery.conf import settings
from backbeat_celery.engine.advance import advance, is_needed
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.inputs.message_headers import CLAIM_HEADER
from backbeat_celery.runtime import sessions
from backbeat_celery.runtime.compat.celery import headers_of_call, put_first, trace_logger
from backbeat_celery.worker.current_run import run_of
from backbeat_celery.worker.deliveries import deliveries
from backbeat_celery.worker.message import has_header, parse
from backbeat_celery.worker.shutdown import is_going_down, note_shutdown, note_start
from backbeat_celery.worker.task import is_node_capable

if TYPE_CHECKING:
    from backbeat_celery.worker.bundle import Bundle
    from backbeat_celery.worker.run import Run

# Celery's worker modules are imported only inside a worker.


def connect() -> None:
    """Connect every receiver, once."""
    signals.task_prerun.connect(on_prerun, dispatch_uid="backbeat_celery.on_prerun")
    # First in the list, so that receivers of other packages see the arguments.
    put_first(signals.task_prerun)
    for signal in signals.task_failure, signals.task_retry:
        signal.connect(on_error, dispatch_uid="backbeat_celery.on_error")
        put_first(signal)  # and here nothing that is to be hidden
    for signal, receiver in (
        (signals.task_success, on_outcome),
        (signals.task_failure, on_outcome),
        (signals.task_retry, on_outcome),
        (signals.task_postrun, on_return),
        (signals.task_received, on_received),
        (signals.task_failure, on_death),
        (signals.task_revoked, on_revoked),
        (signals.task_unknown, on_unknown),
        (signals.celeryd_init, on_celeryd_init),
        (signals.worker_init, on_worker_init),
        (signals.worker_shutting_down, note_shutdown),
    ):
        signal.connect(receiver, dispatch_uid=f"backbeat_celery.{receiver.__name__}")
    trace_logger.addFilter(on_trace_log)


def on_trace_log(record: logging.LogRecord) -> bool:
    """In the process that runs the handler: Celery logs an error that ended a task call."""
    if record.levelno == logging.ERROR:
        from backbeat_celery.worker.log_level import demote

        demote(record)
    return True


def on_prerun(task: Any = None, args: Any = None, kwargs: Any = None, **_: Any) -> None:
    """In the process that runs the handler: claim the node, before other receivers are called."""
    request = task.request
    if has_header(headers_of_call(request)) and is_node_capable(task):
        from backbeat_celery.worker.begin import begin_early

        begin_early(task, request, args, kwargs)


def on_error(sender: Any = None, **_: Any) -> None:
    """In the process that ran the handler: hide its arguments from those who are told next.

    Celery shows them what the handler has seen, once the task's own methods are through.
    """
    request = sender.request
    run = run_of(request)
    if run is not None and run.exposed is not None and settings.redact:
        run.exposed.replace(request)


def on_outcome(sender: Any = None, **_: Any) -> None:
    """In the process that ran the handler: advance the tree, once for each recorded result."""
    _advance(run_of(sender.request))


def _advance(run: Run | Bundle | None) -> None:
    after_commit = run.pop_after_commit() if run is not None else None
    if run is not None and after_commit is not None and is_needed(after_commit):
        with sessions.of_engine(run.claim.using):
            advance(after_commit, run.claim.using)


def on_return(sender: Any = None, retval: Any = None, **_: Any) -> None:
    """At the end of a node's task call: release its connections and its exception's frames."""
    request = sender.request
    if not has_header(headers_of_call(request)):
        return
    try:
        _advance(run_of(request))  # for an end that sends no other signal
    finally:
        sessions.end_call()
        _release_frames(retval)


def _release_frames(retval: Any) -> None:
    """Release the frames of an error.

    An exception, its traceback and Celery's frames reference each other. With billiard's copy
    of the frames this is about 200 KB for each call until Python's garbage collector runs.
    Error trackers have read them by now.
    """
    ring = [retval]
    while ring:
        exc = ring.pop()
        if isinstance(exc, BaseException) and (exc.__traceback__ or exc.args[:1] == (exc,)):
            exc.__traceback__ = None
            ring += [exc.__cause__, exc.__context__]
            if isinstance(exc, Retry):
                ring.append(exc.exc)
                exc.args = ()  # Celery's Retry contains itself


def on_received(request: Any = None, **_: Any) -> None:
    """In the main process: give each delivery the claim id that renews its lease."""
    # Celery's worker modules are imported only inside a worker.
    from backbeat_celery.runtime.compat.worker import headers_of, show_arguments

    headers = headers_of(request)
    if has_header(headers):
        headers[CLAIM_HEADER] = str(uuid4())
        deliveries.add(request, parse(headers, request.task_name))
        show_arguments(request)


def on_death(sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
    """In the main process: a child died or was killed at its hard time limit."""
    message = deliveries.named(task_id)
    if message is None:
        return
    if isinstance(exception, TimeLimitExceeded):
        limit = exception.args[0] if exception.args else None
        deliveries.report(partial(worker_events.hard_time_limit, limit=limit), message)
    elif isinstance(exception, WorkerLostError):
        deliveries.report(partial(worker_events.worker_lost, in_shutdown=is_going_down()), message)


def on_revoked(request: Any = None, terminated: bool = False, **_: Any) -> None:
    """In the main process: a message was revoked, but its node still has to run."""
    message = deliveries.named(request.id)
    if message is None:
        return
    deliveries.report(
        worker_events.worker_lost if terminated else worker_events.message_dropped, message
    )


def on_unknown(sender: Any = None, name: str = "", message: Any = None, **_: Any) -> None:
    """In the main process: this worker does not know the task of a node."""
    headers = getattr(message, "headers", None) or {}
    if has_header(headers) and (node := parse(headers, name)):
        deliveries.report(worker_events.unknown_task, node)


def on_celeryd_init(instance: Any = None, **_: Any) -> None:
    """When `celery worker` starts, before its pool and its tasks' tracers are built."""
    note_start()
    from backbeat_celery.worker.bootstep import prepare

    prepare(instance, alone=True)


def on_worker_init(sender: Any = None, **_: Any) -> None:
    """When any worker starts; the one of `celery.contrib.testing` sends only this signal."""
    from backbeat_celery.worker.bootstep import prepare

    prepare(sender, alone=False)
