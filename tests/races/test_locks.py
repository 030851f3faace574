"""Who locks rows in which order, and who waits for none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from backbeat_celery import signal, signal_many
from backbeat_celery.engine.claim import NodeMessage
from backbeat_celery.engine.delivery.make_due import make_due_without_waiting
from backbeat_celery.engine.repair import worker_events
from backbeat_celery.engine.repair.sweep import Sweep
from backbeat_celery.exceptions import InvalidTransition
from backbeat_celery.models import Node, Workflow
from backbeat_celery.runtime import ids, transactions
from backbeat_celery.runtime.lock_timeouts import RowLocked, without_waiting
from backbeat_celery.worker import threads as worker_threads
from backbeat_celery.worker.deliveries import deliveries
from tests import workflows
from tests.races.threads import DEADLINE, RACES, held_open, start, wait_until_blocked
from tests.races.worker import BARRIER, PARALLEL, family, status, succeed, taken

pytestmark = RACES
PAST = timezone.now() - timedelta(hours=1)


@pytest.fixture
def conflicts(monkeypatch):
    """What the database has refused because two transactions waited for each other."""
    found, is_conflict = [], transactions.is_conflict

    def noted(exc):
        if is_conflict(exc):
            found.append(exc)
        return is_conflict(exc)

    monkeypatch.setattr(transactions, "is_conflict", noted)
    return found


def _signal_from_behind(task, **options):
    """Signal from a machine whose clock is behind: the node's id is before its root's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_last", 0)
        patch.setattr(ids, "time", SimpleNamespace(time_ns=lambda: 10**18))
        return signal(task, **options)


def test_a_cancel_of_several_families_and_a_report_do_not_wait_for_each_other(stops, conflicts):
    side = signal(workflows.done.s(), subject="camera", name="w", mode="non_blocking")
    node = _signal_from_behind(workflows.awaiting.s(), subject="camera", name="w")
    succeed(taken(node), PARALLEL, PARALLEL)
    first, second = node.children.order_by("seq")
    for row in (side, first):
        row.add_child(workflows.done.s())
    assert node.pk < node.workflow_id

    stop = stops.stop("cancel", "level_canceled")
    cancel = start(second.cancel_previous, "cancel")
    stop.wait()
    report = start(lambda: Node.objects.get(pk=node.pk).complete("said"), "report")
    wait_until_blocked()
    stop.release()
    cancel.result(DEADLINE)
    report.result(DEADLINE)
    assert not conflicts
    assert [status(row) for row in (side, first, second)] == ["canceled", "canceled", "queued"]
    assert status(node) == "waiting"
    succeed(taken(second))


def test_signals_with_links_lock_all_roots_before_a_node_that_waits(stops, conflicts):
    node = signal(workflows.done.s(), subject="lens")
    claim = taken(node)
    done, lens = workflows.done.s(), {"subject": "lens", "name": node.workflow.name}
    # The run of the node that is to wait stands behind the other one in their order.
    signals = [(done, {"subject": "camera", "name": "a", "link": node.pk}), (done, lens)]
    stop = stops.stop("record", "parent_locked")
    record = start(lambda: succeed(claim), "record")
    stop.wait()
    many = start(lambda: signal_many(signals), "many")
    wait_until_blocked()
    stop.release()
    record.result(DEADLINE)
    with pytest.raises(InvalidTransition, match="waits for nothing any more"):
        many.result(DEADLINE)
    assert not conflicts
    assert (status(node), Node.objects.exclude(parent=None).count()) == ("complete", 1)


# Who waits for no row ---------------------------------------------------------------------
#
# A thread holds a lock until the test ends: whoever waited for it would run into the deadline.


def lock(model, pk):
    """Lock a row, as a user's transaction may for as long as it likes."""
    return model.objects.select_for_update().get(pk=pk)


def message(node):
    node.refresh_from_db()
    return NodeMessage(node.pk, node.task, node.attempt, "default", node.claim_id)


def change(node, **values):
    Node.objects.filter(pk=node.pk).update(**values)


def running(subject):
    node = signal(workflows.done.s(), subject=subject)
    taken(node)
    return node


def lease(node):
    node.refresh_from_db()
    return node.lease_expires_at


@pytest.fixture
def pair(stops):
    """Two running attempts whose leases are over; their own worker holds the first one's row."""
    nodes = [running("held"), running("free")]
    for node in nodes:
        change(node, lease_expires_at=PAST)
    return nodes


def link_to(node):
    """What an atomic handler does that waits for another workflow: it locks its own row."""
    return partial(signal, workflows.done.s(), subject="far", link=node.pk)


def test_a_renewal_leaves_out_what_is_locked(pair):
    held, free = pair
    messages = [message(node) for node in pair]
    with held_open(link_to(held)):
        assert worker_events.renew(messages) is False
        assert (lease(held), lease(free) > timezone.now()) == (PAST, True)
    assert worker_events.renew(messages) is True
    assert lease(held) > timezone.now()


def test_a_renewal_that_finds_all_of_them_free_is_complete(pair):
    ended = pair[1]
    messages = [message(node) for node in pair]
    ended.cancel()
    assert worker_events.renew(messages) is True


def test_an_attempt_whose_row_is_locked_is_not_lost(pair):
    held, free = pair
    sweep = Sweep("default")
    with held_open(link_to(held)):
        assert sweep.run()["lost"] == 1
        assert (status(held), status(free)) == ("running", "queued")
    # Its worker has this pass to renew the lease.
    assert sweep.run()["lost"] == 0
    assert status(held) == "running"
    assert sweep.run()["lost"] == 1
    assert status(held) == "queued"


@pytest.mark.parametrize(
    ("hint", "then"),
    [(worker_events.worker_lost, "queued"), (worker_events.hard_time_limit, "retrying")],
)
def test_a_hint_about_a_locked_node_is_to_be_given_again(pair, hint, then):
    held = pair[0]
    mine = message(held)
    with held_open(lambda: lock(Node, held.pk)), pytest.raises(RowLocked):
        hint(mine)
    hint(mine)
    assert status(held) == then


@pytest.mark.parametrize("hint", [worker_events.message_dropped, worker_events.unknown_task])
def test_a_hint_about_a_locked_queued_node_is_to_be_given_again(stops, hint):
    node = signal(workflows.done.s(), subject="camera")
    with held_open(lambda: lock(Node, node.pk)), pytest.raises(RowLocked):
        hint(message(node))
    before = Node.objects.filter(pk=node.pk).values().get()
    hint(message(node))
    assert Node.objects.filter(pk=node.pk).values().get() != before


def test_what_no_broker_takes_is_due_again_but_for_a_locked_node(stops):
    nodes = [signal(workflows.done.s(), subject=subject) for subject in ("held", "free", "too")]
    change_all = Node.objects.filter(pk__in=[node.pk for node in nodes])
    later = timezone.now() + timedelta(hours=1)
    change_all.update(publish_at=later)
    with held_open(lambda: lock(Node, nodes[0].pk)), without_waiting():
        make_due_without_waiting([node.pk for node in nodes], "default")
    due = change_all.filter(publish_at__lt=timezone.now()).order_by("pk")
    assert list(due) == nodes[1:]


def test_the_keeper_of_leases_gives_a_hint_again(pair, monkeypatch):
    monkeypatch.setattr(worker_threads, "RETRY_AFTER", 0.0)
    held, keeper = pair[0], worker_threads.LeaseRenewer(has_children=False)
    deliveries.report(worker_events.hard_time_limit, message(held))
    with held_open(lambda: lock(Node, held.pk)):
        keeper.work()
        assert (status(held), deliveries.events.empty()) == ("running", True)
    keeper.work()
    assert (status(held), deliveries.events.empty()) == ("retrying", True)


@pytest.mark.parametrize("trouble", [OperationalError("away"), InterfaceError("closed")])
def test_the_keeper_of_leases_gives_a_hint_again_after_an_outage(pair, monkeypatch, trouble):
    monkeypatch.setattr(worker_threads, "RETRY_AFTER", 0.0)
    overdue = pair[0]
    answers = iter([trouble])
    keeper = worker_threads.LeaseRenewer(has_children=False)

    def tell():
        for refusal in answers:
            raise refusal
        worker_events.hard_time_limit(message(overdue))

    deliveries.events.put(tell)
    keeper.work()
    assert (status(overdue), deliveries.events.empty()) == ("running", True)
    keeper.work()
    assert (status(overdue), deliveries.events.empty()) == ("retrying", True)


class Case(NamedTuple):
    """A condition of the sweeper: makes a node that it mends, and tells its status then."""

    condition: str
    make: Callable[[str], Node]
    after: str


def overdue(subject):
    node = running(subject)
    change(node, times_out_at=PAST)
    return node


def unknown(subject):
    node = signal(workflows.done.s(), subject=subject)
    change(node, times_out_at=PAST)
    return node


def joined(subject):
    parent, (child,) = family({}, subject=subject)
    succeed(taken(child), advances=0)
    return parent


def barred(subject):
    parent, (child, barrier) = family(PARALLEL, BARRIER, subject=subject)
    succeed(taken(child), advances=0)
    return barrier


def paused(subject):
    node = signal(workflows.done.s(), subject=subject)
    change(node, status="paused")
    return node


def shut(subject):
    _, (first, second) = family({}, {}, subject=subject)
    first.cancel()
    change(second, status="ready")
    return second


def orphaned(subject):
    parent, (child,) = family({}, subject=subject)
    change(parent, status="canceled", finished_at=PAST, awaited_by=None)
    return child


def flagged(subject):
    node = signal(workflows.done.s(), subject=subject)
    change(node, task="", publish_at=PAST)
    return node


def pausing(subject):
    node = signal(workflows.done.s(), subject=subject)
    Workflow.objects.filter(pk=node.workflow_id).update(paused_at=PAST)
    change(node, publish_at=PAST)
    return node


CASES = [
    Case("timed_out", overdue, "retrying"),
    Case("unknown_task", unknown, "failed"),
    Case("completed", joined, "complete"),
    Case("barriers", barred, "queued"),
    Case("resumed", paused, "queued"),
    Case("opened", shut, "queued"),
    Case("canceled", orphaned, "canceled"),
    Case("published", flagged, "complete"),
    Case("published", pausing, "paused"),
]


@pytest.mark.parametrize("case", CASES, ids=[case.make.__name__ for case in CASES])
@pytest.mark.parametrize("what", ["node", "parent", "workflow"])
def test_a_mend_leaves_out_what_is_locked_and_all_others_go_on(stops, case, what):
    if connection.vendor == "mysql" and what == "node" and case.make in {shut, barred}:
        pytest.skip("InnoDB locks each row that it reads on the way; in a small table, all")
    held, free = case.make("held"), case.make("free")
    rows = {
        "node": (Node, held.pk),
        "parent": (Node, held.parent_id),
        "workflow": (Workflow, held.workflow_id),
    }
    sweep = Sweep("default")
    with held_open(partial(lock, *rows[what])):
        sweep.run()
        assert status(free) == case.after
    sweep.run()
    assert status(held) == case.after
    for made in (held, free):  # by hand, which broke their histories
        made.workflow.delete()
