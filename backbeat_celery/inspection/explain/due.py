"""Explain nodes that wait for no other node: when they are due, and why no worker has them."""

from __future__ import annotations

from datetime import timedelta

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import called_task, options_of
from backbeat_celery.engine.delivery.broker_probe import broker_probe
from backbeat_celery.engine.delivery.project_app import missing_app
from backbeat_celery.engine.delivery.routing import queue_of
from backbeat_celery.engine.publish_times import LONGEST_INTERVAL, is_due
from backbeat_celery.inputs.redaction import error_of, told_of
from backbeat_celery.inspection.explain.phrases import moment, paused, short, span, times
from backbeat_celery.inspection.explain.reads import sweeper
from backbeat_celery.models import Node
from backbeat_celery.runtime import clock
from backbeat_celery.states import Status

SILENCE = 60.0
"""Seconds without a pass after which the sweeper counts as missing."""


def claimable(node: Node) -> str:
    """Say why a queued or retrying node does not run."""
    if not is_due(node.fires_at, node.db_now):
        return _future(node)
    failed = f"failed its attempt {node.attempt} ({short(error_of(node))}) and is due again"
    due = failed if node.status == Status.RETRYING else "is due"
    if node.workflow.paused_at is not None:
        return f"{due}, but its workflow is {paused(node.workflow)}; resume() lets it run"
    if node.is_flag:
        return f"{due} as a flag and is completed {next_pass(node)}"
    if node.times_out_at is not None:
        return (
            f"{due}, but a worker that received it has no task named {node.task!r}; deploy it "
            f"there, or the node fails at {moment(node.times_out_at, node.db_now)}"
        )
    if _has_no_message(node):
        return (
            f"{due}, and no message for it is known to be in the queue; one is published "
            f"{next_pass(node)}"
        )
    if node.publish_at is not None and node.publish_at <= node.db_now:
        return (
            f"{due}, and no worker has taken its message yet; if that is lost, another one is "
            f"published {next_pass(node)}"
        )
    return f"{due} and its message is published; {_workers(node)}"


def _has_no_message(node: Node) -> bool:
    """Tell whether no message was sent, or so long ago that the sweeper sends another."""
    if node.publish_at is None or (node.fires_at and node.fires_at > node.publish_at):
        return True
    return node.publish_at <= node.db_now - timedelta(seconds=LONGEST_INTERVAL)


def _future(node: Node) -> str:
    assert node.fires_at is not None
    at = moment(node.fires_at, node.db_now)
    if node.status == Status.RETRYING:
        text = (
            f"failed its attempt {node.attempt} ({short(error_of(node))}) and runs again at {at}"
        )
    else:
        text = f"is due at {at}"
    if node.workflow.paused_at is not None:
        text += f", unless its workflow is still {paused(node.workflow)}"
    return text


def _workers(node: Node) -> str:
    """Say which workers could take the message; the broker is asked only about a late one."""
    if not clock.is_simulated() and (problem := missing_app()):
        return f"ask a process that is set up who takes it: {problem}"
    queue = queue_of(called_task(node), options_of(node))
    where = f"the queue {queue!r}" if queue else "its queue"
    if not node.publish_count:
        return f"it runs when a worker that listens to {where} is free"
    state = broker_probe.queue(queue) if queue and not clock.is_simulated() else None
    again = f"it was published {times(node.publish_count + 1, 'time')}"
    if state is None:
        return f"{again} and no worker has taken it: see that one listens to {where} and is free"
    if not state.exists or not state.consumers:
        return f"no worker listens to {where}: start one with -Q {queue}"
    return (
        f"{times(state.consumers, 'consumer')} of {where} have {state.messages} messages before "
        "them, so it runs when one is free"
    )


def next_pass(node: Node) -> str:
    """Say when the sweeper does something, and whether one runs."""
    soon = "by the sweeper at its next pass"
    if clock.is_simulated():
        return soon
    row = sweeper(node.alias)
    if row is None or row.swept_at is None:
        return f"{soon}, but none has been seen yet: start a worker"
    silence = node.db_now - row.swept_at
    if silence > timedelta(seconds=max(SILENCE, settings.sweep_interval * 6)):
        return (
            f"{soon}, but none has been seen for {span(silence.total_seconds())}: start a worker"
        )
    return soon


def running(node: Node) -> str:
    """Say where a node runs, or what it waits for."""
    now, until = node.db_now, node.times_out_at
    end = f"until {moment(until, now)}" if until else "without a time limit"
    if node.lease_expires_at is None and node.awaits_completion:
        return f"has run and awaits complete() or fail() from outside {end}"
    if node.lease_expires_at is None and node.remote:
        return f"is with the workers of another code base, whose report is awaited {end}"
    if node.lease_expires_at is not None and node.lease_expires_at <= now:
        silence = moment(node.lease_expires_at)
        return (
            f"was running on {node.worker or 'a worker'}, whose lease ran out at {silence}; the "
            f"attempt is declared lost {next_pass(node)}"
        )
    since = f" since {moment(node.started_at)}" if node.started_at else ""
    where = f" on {node.worker}" if node.worker else ""
    return f"is running{where}{since}, attempt {node.attempt}{progress(node)}, {end}"


def progress(node: Node) -> str:
    """Give the progress that the handler reported last."""
    stored = node.progress
    if not isinstance(stored, dict) or stored.get("done") is None:
        return ""
    total = "" if stored.get("total") is None else f" of {stored['total']}"
    message = f" ({short(told_of(node, str(stored['message'])))})" if stored.get("message") else ""
    return f", {stored['done']}{total} done{message}"
