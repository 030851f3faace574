"""Record how an attempt ended: result or error, children and next status in one transaction.

Every write is guarded by attempt and claim id. An attempt that was fenced off changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import (
    AT_ONCE,
    AfterCommit,
    Publication,
    rebuild_after_commit,
)
from backbeat_celery.engine.awaiting import (
    await_report,
    drop_children,
    is_awaiting_report,
    load_report,
)
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.order.finish import finish
from backbeat_celery.engine.order.placement import Line
from backbeat_celery.engine.order.turns import open_ready
from backbeat_celery.engine.outcomes import AttemptResult, Failed, Lost, Succeeded, decide
from backbeat_celery.engine.publish_times import publish_at, seconds_until
from backbeat_celery.engine.rescue import call_rescue
from backbeat_celery.engine.statements import record as postgres
from backbeat_celery.exceptions import StaleAttempt
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.inputs.policy import Policy
from backbeat_celery.models import Attempt, Node
from backbeat_celery.models.transitions import StaleNode, transition, transition_all
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.transactions import repeat_on
from backbeat_celery.states import AttemptOutcome, Outcome, Status

ANY = Q()
MOVING = ("next_seq", "next_stage", "next_barrier", "report")
"""Columns that others may change while a handler runs."""


def record(claim: Claim, ending: AttemptResult) -> AfterCommit:
    """Write the ending of a claimed attempt; give what is left to do after the commit.

    Raises StaleAttempt when the attempt is no longer the node's current one.
    """
    failpoints.hit("before_record")
    # A commit that failed, or whose answer was lost, has left its values in the instance.
    after_commit = repeat_on(
        claim.node, lambda _: _record(claim, ending), using=claim.using, outage=True
    )
    failpoints.hit("recorded")
    return after_commit


def _record(claim: Claim, ending: AttemptResult) -> AfterCommit:
    if isinstance(ending, Succeeded) and not ending.note:
        after_commit = postgres.leaf(claim, ending.result)
        if after_commit is not None:
            return after_commit
    as_claimed = dict(vars(claim.node))
    while True:
        # A try that was rolled back has left its values in the instance.
        vars(claim.node).update(as_claimed)
        try:
            with transaction.atomic(using=claim.using):
                if claim.node.awaits_report:
                    return _write_return(claim, ending)
                return write_attempt_result(claim, ending)
        except StaleNode:
            if _is_recorded(claim, ending):
                return rebuild_after_commit(claim.node.pk, claim.using)
            as_claimed |= _counters_now(claim)


def write_attempt_result(claim: Claim, ending: AttemptResult, guard: Q = ANY) -> AfterCommit:
    """Write the end of a claimed attempt, in the caller's transaction."""
    if isinstance(ending, Succeeded):
        return _write_success(claim, ending, guard)
    return write_failure(
        claim.node,
        ending,
        claim.policy,
        claim.now(),
        claimed_from=claim.claimed_from,
        guard=guard,
    )


def _write_return(claim: Claim, ending: AttemptResult) -> AfterCommit:
    """Write the handler's return where that does not end the attempt by itself."""
    node, returns = claim.node, Q(lease_expires_at__isnull=False)
    if isinstance(ending, Succeeded):
        if node.report is not None:
            ending = load_report(node.report)
        elif ending.at_once:
            returns &= Q(report=None)
        else:
            specs = _without_known_keys(node, claim.specs)
            await_report(node, specs, claim.now(), **_last_progress(claim))
            return AfterCommit()
    return write_attempt_result(claim, ending, returns)


def _is_recorded(claim: Claim, ending: AttemptResult) -> bool:
    """Whether the transaction was done already and only the answer to its commit was lost."""
    if claim.node.awaits_report and is_awaiting_report(claim.node, claim.claim_id):
        return True
    rows = Attempt.objects.using(claim.using).filter(
        node_id=claim.node.pk, number=claim.node.attempt, claim_id=claim.claim_id
    )
    # An attempt that the sweeper or a cancel has ended has a row, too, with their outcome.
    ours = AttemptOutcome.SUCCEEDED if isinstance(ending, Succeeded) else ending.kind
    return ours != AttemptOutcome.LOST and rows.filter(outcome=ours).exists()


def _counters_now(claim: Claim) -> dict[str, Any]:
    """Read the counters again: a child or a link was added, or the attempt is not ours."""
    with transaction.atomic(using=claim.using):
        # Locked, since only a locking read sees the newest row in a frozen snapshot.
        rows = Node.objects.using(claim.using).filter(pk=claim.node.pk)
        row = rows.without_payload().locked().first()
    if row is None or row.status != Status.RUNNING or row.claim_id != claim.claim_id:
        status = row.status if row else "deleted"
        raise StaleAttempt(status, f"report of attempt {claim.node.attempt}", claim.node.pk)
    return {name: getattr(row, name) for name in MOVING}


def _write_success(claim: Claim, ending: Succeeded, guard: Q) -> AfterCommit:
    node, attempt = claim.node, Attempt.running(claim.node)
    unchanged = claim.is_current & Q(next_seq=node.next_seq) & guard
    values: dict[str, Any] = {
        "actor": ending.actor,
        "result": ending.result,
        "error": None,
        "lost_attempts": 0,
        **_last_progress(claim),
    }
    if not claim.specs and node.next_seq == 0:
        after_commit = finish(
            node,
            outcome=Outcome.SUCCEEDED,
            guard=unchanged,
            claimed_from=claim.claimed_from,
            reason=ending.reason,
            **values,
        )
    else:
        after_commit = _record_parent(claim, unchanged, ending.reason, values)
    _insert(attempt.ended(AttemptOutcome.SUCCEEDED, error=ending.note), node)
    failpoints.hit("record_written")
    return after_commit


def _last_progress(claim: Claim) -> dict[str, Any]:
    """What the handler said last of its progress, which may not have been written yet."""
    return {} if claim.progress is None else {"progress": claim.progress}


def _record_parent(claim: Claim, unchanged: Q, reason: str, values: dict[str, Any]) -> AfterCommit:
    node, now = claim.node, claim.now()
    is_first = node.next_seq == 0
    line = Line(node, now)
    line.add(_without_known_keys(node, claim.specs), spawned_by=node.attempt)
    if is_first:
        line.take_turns()
    else:
        line.hold(Status.READY)
    transition(
        node,
        Status.WAITING,
        reason=reason or f"spawned {len(line.places)}",
        guard=unchanged,
        claimed_from=claim.claimed_from,
        **values,
        **line.counters(),
    )
    after_commit = line.insert()
    return after_commit if is_first else release_children(node, now)


def release_children(node: Node, now: datetime) -> AfterCommit:
    """Let children that waited for the node's handler take their turns."""
    children = Node.objects.using(node.alias).children_of(node.pk)
    pending = children.filter(status=Status.PENDING).without_payload().order_by("seq").locked()
    last = -1
    while rows := list(pending.filter(seq__gt=last)[:AT_ONCE]):
        transition_all(rows, Status.READY)
        last = rows[-1].seq
    return open_ready(node, -1, now)


def _without_known_keys(node: Node, specs: list[NodeSpec]) -> list[NodeSpec]:
    """Leave out children whose key was given to a child from outside meanwhile."""
    keys = [spec.key for spec in specs if spec.key is not None]
    if not keys or node.next_seq == 0:
        return specs
    children = Node.objects.using(node.alias).children_of(node.pk)
    known = set(children.filter(key__in=keys).values_list("key", flat=True))
    return [spec for spec in specs if spec.key not in known]


def write_failure(
    node: Node,
    ending: Failed | Lost,
    policy: Policy,
    now: datetime,
    *,
    claimed_from: str = "",
    guard: Q = ANY,
) -> AfterCommit:
    """Write the end of a running attempt that did not succeed, in the caller's transaction.

    Where nobody has said so, and a report was kept before, that report is the end.
    """
    if ending.is_inferred and node.awaits_report:
        if node.report is not None:
            return _apply_kept(node, ending, policy, now, claimed_from, guard)
        guard &= Q(report=None)
    decision = decide(node, ending, policy)
    current = Q(attempt=node.attempt, claim_id=node.claim_id)
    attempt = Attempt.running(node)
    fires_at, publish_at, after_commit = _next_attempt(
        node, decision.status, decision.wait, decision.fires_at, now
    )
    transition(
        node,
        decision.status,
        reason=f"{decision.reason}; {ending.reason}" if ending.reason else decision.reason,
        actor=ending.actor,
        guard=current & guard,
        claimed_from=claimed_from,
        retries=decision.retries,
        lost_attempts=decision.lost_attempts,
        error=ending.error,
        fires_at=fires_at,
        publish_at=publish_at,
        publish_count=0,
    )
    trace = ending.traceback if isinstance(ending, Failed) else ""
    _insert(attempt.ended(ending.kind, error=ending.error, trace=trace), node)
    if node.awaits_report:
        drop_children(node)
    if decision.status == Status.FAILED:
        after_commit += call_rescue(node, policy, decision.reason, ending.error)
    return after_commit


def _apply_kept(
    node: Node,
    ending: Failed | Lost,
    policy: Policy,
    now: datetime,
    claimed_from: str,
    guard: Q,
) -> AfterCommit:
    """End an attempt by the report that came before it was lost, given back or timed out."""
    assert node.claim_id is not None
    report = load_report(node.report)
    why = f"reported before the attempt was {ending.kind.label}"
    if report.reason:
        why = f"{report.reason}; {why}"
    claim = Claim(node, node.claim_id, claimed_from, policy, now)
    return write_attempt_result(claim, replace(report, reason=why), guard)


def _next_attempt(
    node: Node, status: Status, wait: float | None, fires_at: datetime | None, now: datetime
) -> tuple[datetime | None, datetime | None, AfterCommit]:
    """When the next attempt is due, when it is published, and the message if that is now."""
    if status == Status.FAILED:
        return node.fires_at, None, AfterCommit()
    if wait is not None:
        fires_at = now + timedelta(seconds=wait)
    elif fires_at is None:
        fires_at = node.fires_at
    due = publish_at(fires_at, now)
    if seconds_until(fires_at, now) > settings.publish_horizon:
        return fires_at, due, AfterCommit()
    again = Node(
        pk=node.pk,
        attempt=node.attempt,
        task=node.task,
        remote=node.remote,
        options=node.options,
        args=node.args,
        kwargs=node.kwargs,
        fires_at=fires_at,
    )
    return fires_at, due, AfterCommit(publications=[Publication.of(again, now)])


def _insert(attempt: Attempt, node: Node) -> None:
    attempt.save(using=node.alias, force_insert=True)
