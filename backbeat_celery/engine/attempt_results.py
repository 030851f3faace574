"""Write the result of an attempt: the next status, the attempt's row, children and rescue.

Every write is guarded by attempt number and claim id, so that an attempt that is no longer the
current one changes nothing. All functions run in the caller's transaction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import AfterCommit, Publication
from backbeat_celery.engine.awaiting import drop_children, load_report
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.order.dependents import cancel_dependents, lock_canvas
from backbeat_celery.engine.order.finish import finish
from backbeat_celery.engine.order.placement import Placement
from backbeat_celery.engine.order.turns import make_ready, open_ready
from backbeat_celery.engine.outcomes import (
    AttemptResult,
    Decision,
    Failed,
    Lost,
    Succeeded,
    decide,
)
from backbeat_celery.engine.publish_times import publish_at, seconds_until
from backbeat_celery.engine.rescue import call_back
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.inputs.policy import Policy
from backbeat_celery.models import Attempt, Node
from backbeat_celery.models.transitions import transition
from backbeat_celery.runtime import failpoints
from backbeat_celery.states import AttemptOutcome, Outcome, Status

ANY = Q()


def write_attempt_result(claim: Claim, ending: AttemptResult, guard: Q = ANY) -> AfterCommit:
    """Write the result of a claimed attempt, in the caller's transaction."""
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


def _write_success(claim: Claim, ending: Succeeded, guard: Q) -> AfterCommit:
    node, attempt = claim.node, Attempt.running(claim.node)
    canceled = AfterCommit()
    if ending.ignored:
        # Before what follows is queued.
        lock_canvas(node)
        canceled = cancel_dependents(node, reason="ignored", even_immutable=True)
    unchanged = claim.is_current & Q(next_seq=node.next_seq) & guard
    values: dict[str, Any] = {
        "actor": ending.actor,
        "result": ending.result,
        "error": None,
        "lost_attempts": 0,
        **latest_progress(claim),
    }
    if claim.yields is not None:
        values["yields"] = claim.yields
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
        after_commit = _write_parent(claim, unchanged, ending.reason, values)
    _insert(attempt.ended(AttemptOutcome.SUCCEEDED, error=ending.note), node)
    failpoints.hit("record_written")
    after_commit += canceled
    return after_commit


def latest_progress(claim: Claim) -> dict[str, Any]:
    """The latest progress that the handler reported, which may not be written yet."""
    return {} if claim.progress is None else {"progress": claim.progress}


def _write_parent(claim: Claim, unchanged: Q, reason: str, values: dict[str, Any]) -> AfterCommit:
    node, now = claim.node, claim.now()
    is_first = node.next_seq == 0
    placement = Placement(node, now)
    placement.add(without_known_keys(node, claim.specs), spawned_by=node.attempt)
    if is_first:
        placement.assign_statuses()
    else:
        placement.assign(Status.READY)
    transition(
        node,
        Status.WAITING,
        reason=reason or f"spawned {len(placement.slots)}",
        guard=unchanged,
        claimed_from=claim.claimed_from,
        **values,
        **placement.counters(),
    )
    after_commit = placement.insert()
    return after_commit if is_first else release_children(node, now)


def release_children(node: Node, now: datetime) -> AfterCommit:
    """Queue the children that waited for the node's handler, as their order allows."""
    make_ready(node)
    return open_ready(node, -1, now)


def without_known_keys(node: Node, specs: list[NodeSpec]) -> list[NodeSpec]:
    """Leave out children whose key a child added from outside has taken meanwhile."""
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

    If the end was only inferred and a report was stored before, the report counts.
    """
    if ending.is_inferred and node.awaits_report:
        if node.report is not None:
            return _apply_stored_report(node, ending, policy, now, claimed_from, guard)
        guard &= Q(report=None)
    decision = decide(node, ending, policy)
    attempt = Attempt.running(node)
    after_commit = _write_decision(node, ending, decision, now, claimed_from, guard)
    attempt.ended(
        ending.kind,
        error=ending.error,
        error_type=ending.error_type,
        error_args=ending.error_args,
        trace=ending.traceback,
    )
    _insert(attempt, node)
    if node.awaits_report:
        drop_children(node)
    if decision.status == Status.FAILED:
        after_commit += call_back(node, policy, decision.reason, ending.error)
    return after_commit


def _write_decision(
    node: Node,
    ending: Failed | Lost,
    decision: Decision,
    now: datetime,
    claimed_from: str,
    guard: Q,
) -> AfterCommit:
    """Write the node's next status, and give the message for its next attempt."""
    current = Q(attempt=node.attempt, claim_id=node.claim_id)
    fires_at, publish_at, after_commit = _next_attempt(node, decision, now)
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
    return after_commit


def _apply_stored_report(
    node: Node,
    ending: Failed | Lost,
    policy: Policy,
    now: datetime,
    claimed_from: str,
    guard: Q,
) -> AfterCommit:
    """End an attempt by the report that was stored before it was lost or timed out."""
    assert node.claim_id is not None
    report = load_report(node.report)
    why = f"reported before the attempt was {ending.kind.label}"
    if report.reason:
        why = f"{report.reason}; {why}"
    claim = Claim(node, node.claim_id, claimed_from, policy, now)
    return write_attempt_result(claim, replace(report, reason=why), guard)


def _next_attempt(
    node: Node, decision: Decision, now: datetime
) -> tuple[datetime | None, datetime | None, AfterCommit]:
    """Give `fires_at` and `publish_at` of the next attempt, and its message if it is due."""
    if decision.status == Status.FAILED:
        return node.fires_at, None, AfterCommit()
    fires_at = decision.fires_at or node.fires_at
    if decision.wait is not None:
        fires_at = now + timedelta(seconds=decision.wait)
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
