"""Failed nodes that an operator retries, resolves or shuts down."""

from __future__ import annotations

from datetime import date

import pytest
from celery import chain

from backbeat_celery import signal
from backbeat_celery.exceptions import BadPayload, InvalidTransition
from backbeat_celery.models import Node
from tests import workflows
from tests.stateful import invariants

FAILS = {"shape": {"fail_until": 99}}
PARALLEL = {"mode": "non_blocking"}
FORGET = {"mode": "fire_and_forget"}


@pytest.fixture(autouse=True)
def sound(sim, settings):
    settings.BACKBEAT = {"MAX_RETRIES": 0}
    yield
    assert not invariants.broken_now()


@pytest.fixture
def family(sim, run_tree):
    """A waiting node with these children, after all that can run has run."""

    def make(*children):
        node = run_tree(*children)
        return node, list(node.children.order_by("seq"))

    return make


def fresh(*nodes):
    for node in nodes:
        node.refresh_from_db()
    return [node.status for node in nodes]


# Retry ------------------------------------------------------------------------------------


def test_retry_gives_one_attempt_and_no_more(sim, family):
    _, (child,) = family({"shape": {"fail_until": 2}})
    child.retry()
    assert child.status == "queued"
    sim.run()
    assert fresh(child) == ["failed"]
    child.retry()
    sim.run()
    assert fresh(child) == ["complete"]
    assert (child.attempt, child.retries) == (3, 2)


def test_a_retrying_node_is_tried_at_once_and_only_once(sim):
    node = signal(workflows.flaky.s(1), subject="camera")
    sim.run()
    node.retry()
    sim.run()
    assert fresh(node) == ["complete"]
    sim.advance(minutes=5)
    assert [call.attempt for call in sim.calls if call.node_id == node.pk] == [1, 2]


def test_retry_cancels_what_was_added_and_gives_its_key_back(sim, family):
    _, (child,) = family({"shape": {"fail_until": 1}})
    added = child.add_child(workflows.done.s("old"), key="once")
    below = added.add_child(workflows.done.s("older"))
    child.retry()
    assert fresh(added, below) == ["canceled", "canceled"]
    again = child.add_child(workflows.done.s("new"), key="once")
    assert again.pk != added.pk
    sim.run()
    assert fresh(child, again) == ["complete", "complete"]


def test_retry_in_a_paused_workflow_waits(sim, family):
    _, (child,) = family({"shape": {"fail_until": 1}})
    child.workflow.pause()
    child.retry()
    assert child.status == "paused"
    child.workflow.resume()
    sim.run()
    assert fresh(child) == ["complete"]


def test_what_waited_for_a_failed_node_goes_on_after_its_retry(sim, family):
    parent, (bad, behind) = family({"shape": {"fail_until": 1}}, {})
    assert behind.status == "ready"
    bad.retry()
    sim.run()
    assert fresh(parent, bad, behind) == ["complete"] * 3


# Resolve ----------------------------------------------------------------------------------


def test_resolve_lets_successors_and_ancestors_go_on(sim, family):
    parent, (bad, behind) = family(FAILS, {})
    bad.resolve(by="olga", reason="paid by hand")
    assert (bad.status, bad.outcome) == ("complete", "resolved")
    sim.run()
    assert fresh(parent, behind) == ["complete", "complete"]
    assert parent.outcome == "succeeded"


RESULTS = [3, "paid", {"receipt": 7}, [1, None], 0, False, date(2030, 1, 1)]


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_resolve_may_give_the_result(sim, family, result):
    parent, (bad, behind) = family(FAILS, {})
    bad.resolve(result, by="olga")
    assert (bad.status, bad.outcome, bad.result) == ("complete", "resolved", result)
    assert bad.get_result() == result
    sim.run()
    assert fresh(parent, bad, behind) == ["complete"] * 3
    assert bad.result == result


def test_resolve_without_a_result_leaves_none(sim, family):
    _, (bad,) = family(FAILS)
    bad.resolve()
    assert (bad.outcome, bad.result, bad.get_result()) == ("resolved", None, None)


def test_the_result_is_kept_while_the_node_waits_for_its_children(sim, family):
    _, (bad,) = family(FAILS)
    bad.add_child(workflows.done.s("of the child"))
    bad.resolve(result="by hand")
    assert (bad.status, bad.result) == ("waiting", "by hand")
    sim.run()
    assert fresh(bad) == ["complete"]
    assert (bad.outcome, bad.get_result()) == ("resolved", "by hand")


def test_what_takes_the_result_as_input_goes_on_with_it(sim):
    node = signal(chain(workflows.fatal.si(), workflows.plain.s(2)), subject="camera")
    sim.run()
    bad, behind = node.children.order_by("seq")
    assert fresh(bad, behind) == ["failed", "ready"]
    bad.resolve(result=40)
    sim.run()
    assert fresh(node) == ["complete"]
    assert node.get_result() == 42


@pytest.mark.parametrize("result", [{1}, object(), float("nan"), "x" * 300_000])
def test_a_result_that_cannot_be_stored_resolves_nothing(sim, family, result):
    _, (bad,) = family(FAILS)
    before = len(bad.history)
    with pytest.raises(BadPayload):
        bad.resolve(result=result)
    assert fresh(bad) == ["failed"]
    assert (bad.result, len(bad.history)) == (None, before)


def test_only_a_failed_node_takes_a_result(sim, family):
    _, (node,) = family({})
    with pytest.raises(InvalidTransition):
        node.resolve(result=3)
    assert fresh(node) == ["complete"]
    assert node.result == ""


def test_resolve_runs_children_added_from_outside(sim, family):
    parent, (bad,) = family(FAILS)
    added = [bad.add_child(workflows.done.s(n)) for n in range(2)]
    bad.resolve()
    assert (bad.status, bad.outcome) == ("waiting", "resolved")
    sim.run()
    assert fresh(parent, bad, *added) == ["complete"] * 4
    assert bad.outcome == "resolved"


def test_resolve_does_not_wait_for_what_nobody_waits_for(sim, family):
    _, (bad,) = family(FAILS)
    added = bad.add_child(workflows.done.s(), mode="fire_and_forget", delay=60)
    bad.resolve()
    assert (bad.status, bad.outcome) == ("complete", "resolved")
    sim.advance(minutes=2)
    assert fresh(added) == ["complete"]


def test_a_resolved_node_with_an_open_link_waits_for_it(sim, family):
    _, (bad,) = family(FAILS)
    far = signal(workflows.done.s(), subject="lens", link=bad, delay=60)
    bad.resolve()
    assert (bad.status, bad.outcome) == ("waiting", "resolved")
    sim.advance(minutes=2)
    assert fresh(bad, far) == ["complete", "complete"]
    assert bad.outcome == "resolved"


def test_a_resolved_node_that_still_waits_may_be_canceled(sim, family):
    parent, (bad,) = family(FAILS)
    bad.add_child(workflows.done.s(), delay=60)
    bad.resolve()
    bad.cancel()
    assert (bad.status, bad.outcome) == ("canceled", "")
    sim.run()
    assert fresh(parent) == ["complete"]


# Shutdown ---------------------------------------------------------------------------------


def test_shutdown_cancels_later_siblings_of_every_mode(sim, family):
    parent, (before, bad, *later) = family({}, FAILS, {}, PARALLEL, FORGET, {"barrier": True})
    bad.shutdown(by="olga")
    assert (bad.status, bad.outcome) == ("complete", "shutdown")
    sim.run()
    assert fresh(before, *later) == ["complete", *["canceled"] * 4]
    assert fresh(parent) == ["complete"]
    assert later[0].history[-1].actor == "olga"


@pytest.mark.parametrize("mode", ["non_blocking", "fire_and_forget"])
def test_shutdown_of_a_node_that_blocks_nobody_spares_its_siblings(sim, family, mode):
    _, (bad, other) = family({**FAILS, "mode": mode}, {"delay": 60})
    bad.shutdown()
    assert fresh(bad, other) == ["complete", "queued"]


def parts(family):
    """Three parts, one of them failed, a barrier behind them and what is behind that."""
    return family(
        PARALLEL, {**FAILS, **PARALLEL}, PARALLEL, {"barrier": True}, PARALLEL, FORGET, {}
    )


def test_shutdown_of_a_failed_part_gives_its_barrier_up(sim, family):
    parent, (one, bad, two, barrier, *behind) = parts(family)
    added = barrier.add_child(workflows.done.s())
    bad.shutdown(by="olga")
    assert (bad.status, bad.outcome) == ("complete", "shutdown")
    assert fresh(barrier, added, *behind) == ["canceled"] * 5
    assert barrier.history[-1].actor == "olga"
    sim.run()
    assert fresh(parent, one, two) == ["complete"] * 3
    assert not [call for call in sim.calls if call.node_id == barrier.pk]


def test_shutdown_of_a_failed_part_spares_what_is_before_its_barrier(sim, family):
    parent, (bad, beside, slow, barrier, behind) = family(
        {**FAILS, **PARALLEL},
        {**PARALLEL, "delay": 60},
        {"delay": 30},
        {"barrier": True},
        {},
    )
    bad.shutdown()
    sim.run()
    assert fresh(barrier, behind) == ["canceled", "canceled"]
    assert fresh(parent, beside, slow) == ["waiting", "queued", "queued"]
    sim.advance(minutes=2)
    assert fresh(parent, beside, slow) == ["complete"] * 3


def test_shutdown_of_a_part_that_nobody_waits_for_spares_the_barrier(sim, family):
    _, (bad, barrier) = family({**FAILS, **FORGET}, {"barrier": True})
    assert fresh(bad, barrier) == ["failed", "complete"]
    _, (bad, _slow, barrier) = family({**FAILS, **FORGET}, {"delay": 60}, {"barrier": True})
    bad.shutdown()
    assert fresh(barrier) == ["ready"]


@pytest.mark.parametrize("verb", ["resolve", "cancel"])
def test_the_other_verbs_on_a_failed_part_run_the_barrier(sim, family, verb):
    parent, (*_, barrier, one, forget, last) = parts(family)
    bad = Node.objects.get(status="failed")
    getattr(bad, verb)()
    sim.run()
    assert fresh(parent, barrier, one, forget, last) == ["complete"] * 5


def test_shutdown_waits_for_earlier_siblings(sim, family):
    parent, (slow, bad, later) = family({**PARALLEL, "delay": 60}, FAILS, {})
    bad.shutdown()
    sim.run()
    assert fresh(slow, later, parent) == ["queued", "canceled", "waiting"]
    sim.advance(minutes=2)
    assert fresh(parent) == ["complete"]


def test_shutdown_runs_its_own_children(sim, family):
    parent, (bad, later) = family(FAILS, {})
    added = bad.add_child(workflows.done.s())
    bad.shutdown()
    assert (bad.status, bad.outcome) == ("waiting", "shutdown")
    sim.run()
    assert fresh(bad, added, later, parent) == ["complete", "complete", "canceled", "complete"]
    assert bad.outcome == "shutdown"


def test_shutdown_of_a_signal_drops_the_line_behind_it_and_no_later_one(sim):
    bad = signal(workflows.fatal.s(), subject="camera", name="sale")
    line = [signal(workflows.done.s(), subject="camera", name="sale") for _ in range(3)]
    sim.run()
    fresh(bad)
    bad.shutdown()
    after = signal(workflows.done.s(), subject="camera", name="sale")
    sim.run()
    assert fresh(*line, after) == ["canceled"] * 3 + ["complete"]


def test_a_shutdown_takes_what_was_added_to_a_later_sibling(sim, family):
    _, (bad, later) = family(FAILS, {})
    added = later.add_child(workflows.done.s())
    bad.shutdown()
    assert fresh(later, added) == ["canceled", "canceled"]


def test_a_node_that_linked_a_dropped_signal_goes_on(sim, family):
    waiting, (child,) = family({"delay": 30})
    bad = signal(workflows.fatal.s(), subject="lens", name="sale")
    dropped = signal(workflows.done.s(), subject="lens", name="sale", link=waiting)
    sim.advance(seconds=31)
    assert fresh(waiting, child, bad) == ["waiting", "complete", "failed"]
    bad.shutdown()
    sim.run()
    assert fresh(dropped, waiting) == ["canceled", "complete"]


def test_a_failed_node_that_awaits_nothing_is_not_found_by_the_sweeper(sim, family):
    parent, (bad,) = family(FAILS)
    sim.advance(days=1)
    assert fresh(parent, bad) == ["waiting", "failed"]
    assert Node.objects.filter(status="failed").count() == 1
