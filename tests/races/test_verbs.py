"""Operators against workers, sweepers and each other. After each race every invariant holds."""

from __future__ import annotations

import pytest

from backbeat_celery import signal
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.claim import pause_due
from backbeat_celery.engine.outcomes import Failed
from backbeat_celery.engine.record import record
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.exceptions import (
    InvalidTransition,
    NodeFinished,
    StaleAttempt,
    WorkflowClosed,
)
from backbeat_celery.models import Attempt, Node, Transition, Workflow
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
AGAIN = range(6)
REFUSED = (InvalidTransition, StaleAttempt)


@pytest.fixture(autouse=True)
def _engine_runs(stops):
    """Stops are there, and the invariants are checked at the end."""


def fail(node: Node, *, final: bool = True) -> Node:
    """Let a node's attempt fail: for good, or to be retried."""
    claimed = taken(node)
    advance(record(claimed, Failed("declined", final=final, wait=0)), "default")
    node.refresh_from_db()
    return node


def outcome(function):
    """Call it; tell whether it was refused."""
    try:
        function()
    except REFUSED:
        return "refused"
    return "done"


def verb(node: Node, name: str):
    return lambda: outcome(getattr(Node.objects.get(pk=node.pk), name))


def report(claim, *children):
    return lambda: outcome(lambda: succeed(claim, *children))


# Against the end of the node itself -------------------------------------------------------


@pytest.mark.parametrize("repetition", AGAIN)
@pytest.mark.parametrize("children", [(), ({},), (PARALLEL, BARRIER)])
def test_cancel_against_completion(repetition, children):
    parent, (node, behind) = family({}, {})
    mine = taken(node)
    done = together(verb(node, "cancel"), report(mine, *children))
    if children:
        assert done[0] == "done"  # a waiting node is canceled with its children
    else:
        assert sorted(done) == ["done", "refused"]
    assert status(node) == ("canceled" if done[0] == "done" else "complete")
    assert (status(parent), status(behind), times(behind, "queued")) == ("waiting", "queued", 1)


def test_a_report_that_waits_for_a_cancel_is_discarded():
    node = signal(workflows.done.s(), subject="camera")
    mine = taken(node)
    with held_open(node.cancel):
        late = start(lambda: succeed(mine, {}), "late")
        wait_until_blocked()
    with pytest.raises(StaleAttempt):
        late.result(DEADLINE)
    assert status(node) == "canceled"
    assert not node.children.exists()


def test_a_cancel_that_waits_for_a_report_takes_the_new_children_along():
    node = signal(workflows.done.s(), subject="camera")
    mine = taken(node)
    with held_open(lambda: succeed(mine, {}, PARALLEL)):
        late = start(node.cancel, "late")
        wait_until_blocked()
    late.result(DEADLINE)
    assert status(node) == "canceled"
    assert {status(child) for child in node.children.all()} == {"canceled"}


def test_a_cancel_of_the_parent_meets_a_child_that_records_children():
    parent, (child,) = family({})
    mine = taken(child)
    with held_open(lambda: succeed(mine, {}, {})):
        late = start(parent.cancel, "late")
        wait_until_blocked()
    late.result(DEADLINE)
    assert {status(node) for node in child.children.all()} == {"canceled"}
    assert status(child) == status(parent) == "canceled"


@pytest.mark.parametrize("repetition", AGAIN)
def test_cancel_of_a_tree_that_grows(repetition):
    parent, children = family(*[PARALLEL] * 4)
    claims = [taken(child) for child in children]
    together(verb(parent, "cancel"), *[report(mine, {}, PARALLEL) for mine in claims])
    assert status(parent) == "canceled"
    assert not Node.objects.unfinished().exclude(parent=None).exists()


def test_a_retry_meets_the_claim_of_the_retry_that_was_due():
    node = fail(signal(workflows.done.s(), subject="camera"), final=False)
    assert node.status == "retrying"
    with held_open(node.retry):
        claimer = start(lambda: take(node, attempt=2), "claimer")
        wait_until_blocked()
    mine = claimer.result(DEADLINE)
    assert mine is not None
    assert take(node, attempt=2) is None  # the message of the retry
    succeed(mine)
    assert (status(node), times(node, "complete")) == ("complete", 1)


@pytest.mark.parametrize("repetition", AGAIN)
def test_retry_against_completion(repetition):
    node = fail(signal(workflows.done.s(), subject="camera"), final=False)

    def work():
        mine = take(node, attempt=2)
        return mine and succeed(mine)

    done = together(verb(node, "retry"), work)
    node.refresh_from_db()
    if node.status == "queued":  # the claim came too early or too late: the new one is there
        assert done[0] == "done"
        succeed(taken(node))
    assert (status(node), times(node, "complete"), node.attempt) == ("complete", 1, 2)


# Pause and resume -------------------------------------------------------------------------


@pytest.mark.parametrize("repetition", AGAIN)
def test_pause_against_claim(repetition):
    nodes = family(*[PARALLEL] * 4)[1]
    workflow = nodes[0].workflow
    claims = together(workflow.pause, *[lambda node=node: take(node) for node in nodes])[1:]
    for node, mine in zip(nodes, claims, strict=True):
        assert status(node) == ("running" if mine else "paused")
        assert take(node) is None  # from the commit on, nothing starts


def test_a_claim_that_began_before_the_resume_still_gets_its_node():
    node = signal(workflows.done.s(), subject="camera")
    node.workflow.pause()
    with held_open(lambda: Workflow.objects.get().resume()):
        claimer = start(lambda: take(node, attempt=1), "claimer")
        wait_until_blocked()
    mine = claimer.result(DEADLINE)
    assert mine is not None
    assert (status(node), times(node, "paused")) == ("running", 0)
    succeed(mine)


def test_a_resume_finds_the_node_that_is_just_being_paused(outbox):
    node = signal(workflows.done.s(), subject="camera")
    node.workflow.pause()
    node.refresh_from_db()
    outbox.sent.clear()
    with held_open(lambda: pause_due(node)):
        operator = start(lambda: Workflow.objects.get().resume(), "operator")
        wait_until_blocked()
    operator.result(DEADLINE)
    assert status(node) == "queued"
    assert [message.node_id for message in outbox.sent] == [node.pk]


@pytest.mark.parametrize("repetition", AGAIN)
def test_resume_against_claims_leaves_nobody_behind(repetition):
    nodes = family(*[PARALLEL] * 3)[1]
    workflow = nodes[0].workflow
    workflow.pause()
    together(workflow.resume, *[lambda node=node: take(node) for node in nodes])
    assert {status(node) for node in nodes} <= {"queued", "running"}


@pytest.mark.parametrize("repetition", AGAIN)
def test_pause_resume_and_two_sweepers(repetition):
    nodes = family(*[PARALLEL] * 3)[1]
    nodes[0].workflow.pause()
    Node.objects.filter(pk__in=[node.pk for node in nodes]).update(publish_at=nodes[0].created_at)
    together(
        lambda: Workflow.objects.get().resume(),
        lambda: Sweep("default").run(),
        lambda: Sweep("default").run(),
    )
    Sweep("default").run()
    assert {status(node) for node in nodes} == {"queued"}


# Shutdown, resolve and reset against the rest of the tree ----------------------------------


@pytest.mark.parametrize("repetition", AGAIN)
@pytest.mark.parametrize("name", ["shutdown", "resolve", "cancel"])
def test_settling_the_last_node_against_the_end_of_its_sibling(name, repetition):
    parent, (slow, bad) = family(PARALLEL, {})
    fail(bad)
    mine = taken(slow)
    assert together(verb(bad, name), report(mine)) == ["done", "done"]
    assert (status(parent), times(parent, "complete")) == ("complete", 1)


@pytest.mark.parametrize("repetition", AGAIN)
def test_shutdown_against_a_child_that_is_added_behind(repetition):
    parent, (bad,) = family({})
    fail(bad)

    def add():
        try:
            return parent.add_child(workflows.done.s())
        except NodeFinished:
            return None

    _, added = together(verb(bad, "shutdown"), add)
    if added is not None and status(added) != "canceled":
        assert status(added) == "queued"
        run(added)
    assert (status(parent), times(parent, "complete")) == ("complete", 1)


@pytest.mark.parametrize("repetition", AGAIN)
def test_resolve_against_a_child_that_is_added_below(repetition):
    node = fail(signal(workflows.done.s(), subject="camera"))

    def add():
        try:
            return Node.objects.get(pk=node.pk).add_child(workflows.done.s())
        except InvalidTransition:
            return None

    _, added = together(verb(node, "resolve"), add)
    if added is not None:
        assert (status(node), status(added)) == ("waiting", "queued")
        run(added)
    assert (status(node), times(node, "complete")) == ("complete", 1)


@pytest.mark.parametrize("repetition", AGAIN)
def test_resolve_against_the_end_of_a_link(repetition):
    node = fail(signal(workflows.done.s(), subject="camera"))
    far = signal(workflows.done.s(), subject="lens", link=node)
    mine = taken(far)
    assert together(verb(node, "resolve"), report(mine)) == ["done", "done"]
    assert (status(node), times(node, "complete")) == ("complete", 1)


@pytest.mark.parametrize("repetition", AGAIN)
def test_reset_against_the_last_childs_end(repetition):
    parent, (one, two) = family(PARALLEL, PARALLEL)
    run(one)
    mine = taken(two)
    together(verb(parent, "reset"), report(mine))
    assert (status(parent), times(parent, "complete")) == ("complete", 1)


# Operators against each other -------------------------------------------------------------

SETTLING = ["retry", "resolve", "shutdown"]


@repeated(2)
@pytest.mark.parametrize("one", SETTLING)
@pytest.mark.parametrize("two", SETTLING)
def test_two_operators_settle_one_node(one, two, repetition):
    parent, (bad, behind) = family({}, {})
    fail(bad)
    done = together(verb(bad, one), verb(bad, two))
    assert sorted(done) == ["done", "refused"]
    winner = [one, two][done.index("done")]
    expected = {"retry": "queued", "resolve": "complete", "shutdown": "complete"}[winner]
    assert status(bad) == expected
    assert (
        status(behind) == {"retry": "ready", "resolve": "queued", "shutdown": "canceled"}[winner]
    )
    assert status(parent) == ("complete" if winner == "shutdown" else "waiting")


@repeated(5)
@pytest.mark.parametrize("other", ["retry", "resolve", "reset", "cancel", "cancel_previous"])
def test_cancel_against_another_operator(other, repetition):
    parent, (bad, behind) = family({}, {})
    fail(bad)
    done = together(verb(bad, "cancel"), verb(bad, other))
    assert "done" in done
    is_resolved = other == "resolve" and done == ["refused", "done"]
    assert status(bad) == ("complete" if is_resolved else "canceled")
    assert (status(parent), status(behind)) == ("waiting", "queued")


@repeated(5)
def test_operators_at_both_ends_of_a_tree(repetition):
    top, middle = family({}, PARALLEL)
    leaves = run(middle[0], {}, {}, PARALLEL)
    fail(leaves[0])
    together(
        verb(top, "reset"),
        verb(leaves[0], "shutdown"),
        verb(middle[0], "cancel"),
        verb(leaves[2], "cancel_previous"),
    )
    assert status(top) == "complete"


# The workflow -----------------------------------------------------------------------------


@pytest.mark.parametrize("repetition", AGAIN)
def test_cancel_of_a_workflow_against_signals_and_reports(repetition):
    node, children = family(PARALLEL, PARALLEL)
    workflow = node.workflow
    claims = [taken(child) for child in children]
    _, added, *_ = together(
        workflow.cancel,
        lambda: workflow.signal(workflows.done.s()),
        *[report(mine, {}) for mine in claims],
    )
    left = Node.objects.unfinished().exclude(parent=None)
    assert list(left) in ([], [added])
    assert status(node) == "canceled"
    assert status(added) in {"queued", "canceled"}


@pytest.mark.parametrize("repetition", AGAIN)
def test_close_against_a_signal(repetition):
    node = signal(workflows.done.s(), subject="camera")
    mine = taken(node)

    def try_to_signal():
        try:
            return Workflow.objects.get(pk=node.workflow_id).signal(workflows.done.s())
        except WorkflowClosed:
            return None

    _, added, _ = together(node.workflow.close, try_to_signal, report(mine))
    root = node.workflow.root
    if added is not None:
        assert status(root) == "waiting"
        run(added)
    assert (status(root), times(root, "complete")) == ("complete", 1)


@pytest.mark.parametrize("repetition", AGAIN)
@pytest.mark.parametrize("children", [(), ({}, PARALLEL)])
def test_delete_of_a_workflow_against_a_running_node(repetition, children):
    parent, (node, behind) = family({}, {})
    mine = taken(node)
    workflow = parent.workflow
    together(workflow.delete, report(mine, *children), lambda: Sweep("default").run())
    assert not Node.objects.filter(workflow_id=workflow.pk).exists()
    assert not Transition.objects.filter(node__in=[parent.pk, node.pk, behind.pk]).exists()
    assert not Attempt.objects.filter(node__in=[parent.pk, node.pk, behind.pk]).exists()


def test_a_report_after_a_delete_is_refused():
    node = signal(workflows.done.s(), subject="camera")
    mine = taken(node)
    node.workflow.delete()
    with pytest.raises(StaleAttempt, match="deleted"):
        succeed(mine)


def test_a_delete_that_waits_for_a_report_takes_its_children_along():
    node = signal(workflows.done.s(), subject="camera")
    mine = taken(node)
    with held_open(lambda: succeed(mine, {}, PARALLEL)):
        late = start(node.workflow.delete, "late")
        wait_until_blocked()
    late.result(DEADLINE)
    assert not Node.objects.exists()
    assert not Transition.objects.exists()
