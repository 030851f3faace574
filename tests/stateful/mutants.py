"""Faults to put into the engine, each of which the machine must find."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Q

from backbeat_celery.engine import advance, attempt_results, record, values
from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.order import cancel, turns
from backbeat_celery.engine.order.placement import Placement
from backbeat_celery.engine.outcomes import Succeeded
from backbeat_celery.engine.repair import sweep
from backbeat_celery.inputs import node_spec
from backbeat_celery.inputs.policy import Policy
from backbeat_celery.models import Attempt, Node
from backbeat_celery.runtime import clock
from backbeat_celery.states import Mode, Status
from backbeat_celery.verbs import nodes, workflows


def joins_without_guard(patch: pytest.MonkeyPatch) -> None:
    """A child added between the look and the join is forgotten."""
    finish = advance.finish
    patch.setattr(advance, "finish", lambda node, **kw: finish(node, **{**kw, "guard": None}))


def believes_stale_attempts(patch: pytest.MonkeyPatch) -> None:
    """An attempt that was fenced off reports while its successor runs."""
    patch.setattr(Claim, "is_current", property(lambda claim: Q()))
    insert = attempt_results._insert

    def _insert(attempt: Attempt, node: Any) -> None:
        # The unique number of an attempt would stop the liar as well.
        Attempt.objects.filter(node_id=attempt.node_id, number=attempt.number).delete()
        insert(attempt, node)

    patch.setattr(attempt_results, "_insert", _insert)


def opens_barriers_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(turns, "_is_clear_before", lambda parent, seq: True)


def adds_behind_nothing(patch: pytest.MonkeyPatch) -> None:
    """A child added from outside does not see the blocking sibling before it."""
    for module in (turns, import_module("backbeat_celery.verbs.signals")):
        patch.setattr(module, "has_blocking_before", lambda parent: False)


def keeps_children_of_failed_attempts(patch: pytest.MonkeyPatch) -> None:
    original = record._record

    def _record(claim: Claim, ending: Any) -> AfterCommit:
        if not isinstance(ending, Succeeded) and claim.specs:
            with transaction.atomic():
                placement = Placement(claim.node, claim.now())
                placement.add(claim.specs, spawned_by=claim.node.attempt)
                placement.assign(Status.PENDING)
                placement.insert()
                rows = type(claim.node).objects.filter(pk=claim.node.pk)
                rows.update(**placement.counters())
                vars(claim.node).update(placement.counters())
        return original(claim, ending)

    patch.setattr(record, "_record", _record)


def retries_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Policy, "is_exhausted", lambda *args: False)


def counts_fire_and_forget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_spec, "COUNTING", frozenset(Mode))


def counts_lost_attempts_as_failures(patch: pytest.MonkeyPatch) -> None:
    lose = sweep.lose
    patch.setattr(sweep, "lose", lambda node: lose(node) if node.attempt > 1 else _fail(node))


def _fail(node: Any) -> AfterCommit:
    node.times_out_at = node.lease_expires_at
    return sweep._end(node, sweep.Failed("the worker died"), Q())


def forgets_parents(patch: pytest.MonkeyPatch) -> None:
    """Nobody completes a parent whose last child's worker died before it could look."""
    patch.setattr(sweep.Sweep, "_complete_waiting", lambda self: 0)


def forgets_messages(patch: pytest.MonkeyPatch) -> None:
    """The sweeper believes every message to be under way."""

    def publish_due(using: str, batch: int) -> int:
        due = Node.objects.filter(publish_at__lte=clock.now())
        due.update(publish_at=clock.after(365 * 86400))
        return 0

    patch.setattr(sweep, "publish_due", publish_due)


def forgets_the_rest_of_the_line(patch: pytest.MonkeyPatch) -> None:
    """Neither whoever ends a blocking child opens the next stage, nor does the sweeper."""
    finish_module = import_module("backbeat_celery.engine.order.finish")
    patch.setattr(finish_module, "open_ready", lambda *args: AfterCommit())
    patch.setattr(sweep.Sweep, "_open_stages", lambda self: 0)


def cancels_without_opening(patch: pytest.MonkeyPatch) -> None:
    """Neither a cancel nor the sweeper lets those behind go on."""
    patch.setattr(cancel, "open_behind", lambda *args: AfterCommit())
    patch.setattr(sweep.Sweep, "_open_stages", lambda self: 0)


def cancels_the_top_alone(patch: pytest.MonkeyPatch) -> None:
    """What is below a canceled node runs on, for the sweeper does not see it either."""
    patch.setattr(cancel, "cancel_below", lambda *args, **kwargs: None)
    patch.setattr(sweep.Sweep, "_below_canceled", lambda self: [])


def resolves_without_children(patch: pytest.MonkeyPatch) -> None:
    """Children that were added to a failed node are forgotten when it is resolved."""
    patch.setattr(nodes, "release_children", lambda node, now: AfterCommit())


def spares_siblings_at_a_shutdown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodes, "cancel_rows", lambda *args, **kwargs: None)


def forgets_what_is_paused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(workflows, "queue_paused", lambda *args, **kwargs: AfterCommit())
    patch.setattr(sweep.Sweep, "_stuck_paused", lambda self: [])


def retries_beside_the_old_children(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nodes, "cancel_below", lambda *args, **kwargs: None)


def resolves_without_the_result(patch: pytest.MonkeyPatch) -> None:
    settle = nodes._settle
    patch.setattr(nodes, "_settle", lambda locked, outcome, result=None: settle(locked, outcome))


def cancels_what_takes_nothing(patch: pytest.MonkeyPatch) -> None:
    """A step that would go on without the value is canceled like those that need it."""
    lose = nodes.cancel_dependents
    patch.setattr(
        nodes, "cancel_dependents", lambda *args, **kw: lose(*args, **kw, even_immutable=True)
    )


def fills_holes(patch: pytest.MonkeyPatch) -> None:
    """What needs the value of a canceled node is called all the same, without it."""
    patch.setattr(nodes, "cancel_dependents", lambda *args, **kwargs: AfterCommit())
    patch.setattr(values, "_refuse_missing", lambda *args: None)


CANVAS_MUTANTS = [resolves_without_the_result, cancels_what_takes_nothing, fills_holes]
"""Faults that only an operator brings to light, and only in a canvas."""

STEERING_MUTANTS = [
    cancels_without_opening,
    cancels_the_top_alone,
    resolves_without_children,
    spares_siblings_at_a_shutdown,
    forgets_what_is_paused,
    retries_beside_the_old_children,
]
"""Faults that only an operator brings to light."""

MUTANTS = [
    joins_without_guard,
    believes_stale_attempts,
    opens_barriers_at_once,
    adds_behind_nothing,
    keeps_children_of_failed_attempts,
    retries_without_end,
    counts_fire_and_forget,
    counts_lost_attempts_as_failures,
    forgets_parents,
    forgets_messages,
    forgets_the_rest_of_the_line,
]
