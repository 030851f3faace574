"""Children that finish together, and children that are added while the parent completes."""

from __future__ import annotations

import pytest

from backbeat_celery import signal
from backbeat_celery.engine.advance import try_complete
from backbeat_celery.exceptions import NodeFinished
from backbeat_celery.models import Node
from backbeat_celery.verbs import add_child
from tests import workflows
from tests.races.threads import (
    DEADLINE,
    RACES,
    held_open,
    repeated,
    start,
    together,
    wait_until_blocked,
)
from tests.races.worker import (
    BARRIER,
    PARALLEL,
    family,
    run,
    status,
    succeed,
    take,
    taken,
    times,
)

pytestmark = RACES


def test_the_last_two_children_both_see_nobody_and_one_joins(stops):
    parent, children = family(PARALLEL, PARALLEL)
    stops.meet("looked", "thread 0", "thread 1")
    stops.meet("recorded", "thread 0", "thread 1")
    claims = [taken(child) for child in children]
    together(*[lambda mine=mine: succeed(mine) for mine in claims])
    assert (status(parent), times(parent, "complete")) == ("complete", 1)


def test_one_that_looked_too_early_leaves_the_join_to_the_other(stops):
    parent, (one, two) = family(PARALLEL, PARALLEL)
    mine, theirs = taken(one), taken(two)
    early = stops.stop("early", "looked")
    first = start(lambda: succeed(mine), "early")
    early.wait()
    succeed(theirs)
    early.release()
    first.result(DEADLINE)
    assert (status(parent), times(parent, "complete")) == ("complete", 1)


@repeated(15)
def test_eight_siblings_finish_at_once_with_every_finish_delivered_twice(stops, repetition):
    parent, children = family(*[PARALLEL] * 8)
    claims = [taken(child) for child in children]
    together(*[lambda mine=mine: succeed(mine, advances=2) for mine in claims])
    assert (status(parent), times(parent, "complete")) == ("complete", 1)


@repeated(10)
def test_a_fan_in_of_families_climbs_once_at_each_level(stops, repetition):
    top, middle = family(PARALLEL, PARALLEL)
    leaves = [leaf for node in middle for leaf in run(node, PARALLEL, PARALLEL)]
    claims = [taken(leaf) for leaf in leaves]
    together(*[lambda mine=mine: succeed(mine, advances=2) for mine in claims])
    assert [times(node, "complete") for node in (top, *middle)] == [1, 1, 1]


def test_a_child_added_after_the_look_is_waited_for(stops):
    parent, (child,) = family(PARALLEL)
    mine = taken(child)
    looked = stops.stop("last", "looked")
    last = start(lambda: succeed(mine), "last")
    looked.wait()
    late = add_child(parent, workflows.done.s())
    looked.release()
    last.result(DEADLINE)
    assert status(parent) == "waiting"
    run(late)
    assert status(parent) == "complete"


def test_a_join_waits_for_a_child_that_is_being_added(stops):
    parent, (child,) = family(PARALLEL)
    mine = taken(child)
    with held_open(lambda: add_child(parent, workflows.done.s())) as adding:
        last = start(lambda: succeed(mine), "last")
        wait_until_blocked()
    last.result(DEADLINE)
    assert status(parent) == "waiting"
    run(adding.result())
    assert status(parent) == "complete"


def test_a_child_is_refused_by_a_parent_that_is_being_completed(stops):
    parent, (child,) = family(PARALLEL)
    stops.stop("last", "before_advance")
    mine = taken(child)
    before = stops.stop("recorder", "recorded")
    recorder = start(lambda: succeed(mine), "recorder")
    before.wait()
    with held_open(lambda: try_complete(parent.pk, "default")):
        adding = start(lambda: add_child(parent, workflows.done.s()), "adding")
        wait_until_blocked()
    with pytest.raises(NodeFinished):
        adding.result(DEADLINE)
    before.release()
    recorder.result(DEADLINE)
    assert (status(parent), times(parent, "complete")) == ("complete", 1)


def test_a_leaf_that_is_given_a_child_while_it_reports_becomes_a_parent(stops):
    leaf = signal(workflows.done.s(), subject="camera")
    mine = taken(leaf)
    with held_open(lambda: add_child(leaf, workflows.done.s())) as adding:
        report = start(lambda: succeed(mine), "report")
        wait_until_blocked()
    report.result(DEADLINE)
    assert (status(leaf), status(adding.result())) == ("waiting", "queued")


@repeated(15)
def test_a_child_added_at_the_join_is_waited_for_or_refused(stops, repetition):
    parent, (child,) = family(PARALLEL)
    mine = taken(child)
    _, added = together(lambda: succeed(mine), lambda: _added_or_none(parent))
    assert status(parent) == ("complete" if added is None else "waiting")
    assert Node.objects.filter(parent=parent).count() == (1 if added is None else 2)


def _added_or_none(parent: Node) -> Node | None:
    try:
        return add_child(parent, workflows.done.s())
    except NodeFinished:
        return None


def test_a_barrier_that_two_see_clear_opens_once(stops, outbox):
    _, (one, two, barrier) = family(PARALLEL, PARALLEL, BARRIER)
    claims = [taken(one), taken(two)]
    stops.meet("looked", "thread 0", "thread 1")
    together(*[lambda mine=mine: succeed(mine) for mine in claims])
    assert (status(barrier), times(barrier, "queued")) == ("queued", 1)
    assert [sent.node_id for sent in outbox.sent].count(barrier.pk) == 1


@repeated(15)
def test_a_barrier_behind_a_blocking_and_a_parallel_sibling_opens_once(stops, repetition, outbox):
    parent, (one, two, barrier) = family(PARALLEL, {}, BARRIER)
    claims = [taken(one), taken(two)]
    together(*[lambda mine=mine: succeed(mine, advances=2) for mine in claims])
    assert (status(barrier), times(barrier, "queued")) == ("queued", 1)
    run(barrier)
    assert times(parent, "complete") == 1
    assert take(barrier, attempt=1) is None
