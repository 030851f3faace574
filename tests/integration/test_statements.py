"""What a node costs: statements that do not depend on the number of its siblings."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import chain
from django.db import connection
from django.db.models.sql.compiler import SQLCompiler
from django.test.utils import CaptureQueriesContext

from backbeat_celery import current_node, signal, signal_many
from backbeat_celery.engine.claim import NodeMessage, claim
from backbeat_celery.engine.order import placement
from backbeat_celery.engine.order.insertion import insert
from backbeat_celery.engine.order.placement import ROWS_AT_ONCE
from backbeat_celery.engine.statements import signals
from backbeat_celery.inputs.policy import policy_of
from backbeat_celery.models import Node, Workflow
from backbeat_celery.sql import session
from tests import workflows
from tests.statements import NEEDED

FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
pytestmark = pytest.mark.exact
WIDTHS = [10, 1000, pytest.param(10_000, marks=pytest.mark.slow)]
SMALL = 10


class Statements(CaptureQueriesContext):
    """The statements of a block, without those that only frame transactions."""

    def __init__(self) -> None:
        super().__init__(connection)

    @property
    def texts(self) -> list[str]:
        texts = [query["sql"] for query in self.captured_queries]
        return [text for text in texts if not text.startswith(FRAME)]

    def __str__(self) -> str:
        return "\n".join(text[:150] for text in self.texts)


@pytest.fixture
def fan_out(sim, script):
    """A node with that many children, which have not run yet."""

    def spawn(width, *, last=None, **options):
        def work(task):
            current_node().spawn_many([workflows.done.s(n) for n in range(width)], **options)
            if last is not None:
                current_node().spawn(workflows.done.s("last"), **last)

        script(work)
        node = signal(workflows.scripted.s(), subject="camera")
        sim.step()
        node.refresh_from_db()
        assert node.children.count() == width + (last is not None)
        return node

    return spawn


def cost_of_a_step(sim):
    """Statements from a delivery to the end of the advance after it."""
    with Statements() as statements:
        assert sim.step()
    assert len(sim.calls) > 1
    return statements


@pytest.mark.parametrize("width", WIDTHS)
def test_a_non_blocking_leaf_takes_at_most_seven(sim, fan_out, width):
    fan_out(width, mode="non_blocking")
    statements = cost_of_a_step(sim)
    assert len(statements.texts) <= 7, str(statements)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_leaf_before_a_barrier_takes_no_more_for_more_siblings(sim, fan_out, width):
    fan_out(width, mode="non_blocking", last={"barrier": True})
    statements = cost_of_a_step(sim)
    assert len(statements.texts) <= 8, str(statements)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_blocking_leaf_takes_at_most_ten(sim, fan_out, width):
    fan_out(width, mode="blocking")
    statements = cost_of_a_step(sim)
    assert len(statements.texts) <= 10, str(statements)


@pytest.mark.parametrize("mode", ["non_blocking", "blocking", "fire_and_forget"])
def test_a_leaf_costs_the_same_at_each_width(sim, fan_out, mode):
    costs = set()
    for width in (10, 100, 1000):
        node = fan_out(width, mode=mode)
        costs.add(len(cost_of_a_step(sim).texts))
        sim.lose_messages()
        node.workflow.delete()
    assert len(costs) == 1


def test_the_last_leaf_costs_the_same_at_each_width(sim, fan_out):
    costs = set()
    for width in (10, 60):
        node = fan_out(width, mode="non_blocking")
        for _ in range(width - 1):
            sim.step()
        costs.add(len(cost_of_a_step(sim).texts))
        node.refresh_from_db()
        assert node.status == "complete"
    assert len(costs) == 1


def insert_limit(width):
    """INSERTs that a fan-out of that width may take."""
    return -(-width // (ROWS_AT_ONCE if connection.vendor == "postgresql" else 30))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_fan_out_is_recorded_in_few_statements(sim, script, width):
    def work(task):
        current_node().spawn_many([workflows.done.s(n) for n in range(width)], mode="non_blocking")

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.in_flight  # noqa: B018  (what the signal left to do is done before)
    with Statements() as statements:
        sim.step()
    nodes = [t for t in statements.texts if t.startswith("INSERT INTO") and "_node" in t[:40]]
    assert Node.objects.filter(task=workflows.done.name).count() == width
    assert len(nodes) <= insert_limit(width)
    assert len(statements.texts) - len(nodes) <= 7, str(statements)


def test_a_wide_fan_out_does_not_hold_all_rows_in_memory(sim, script, monkeypatch):
    alive, most = weakref.WeakSet(), []

    def insert_counted(rows):
        alive.update(rows)
        most.append(len(alive))
        return insert(rows)

    def work(task):
        current_node().spawn_many([workflows.done.s(n) for n in range(500)], mode="non_blocking")

    monkeypatch.setattr(placement, "ROWS_AT_ONCE", 50)
    monkeypatch.setattr(placement, "insert", insert_counted)
    script(work)
    signal(workflows.scripted.s(), subject="camera")
    sim.step()
    assert len(most) >= 10
    assert max(most) <= 3 * 50
    assert Node.objects.filter(task=workflows.done.name, status="queued").count() == 500


@pytest.mark.parametrize("width", [10, 1000])
def test_a_retried_fan_out_costs_the_same(sim, script, width):
    """Children that a failed attempt has spawned were never written."""

    def work(task):
        current_node().spawn_many([workflows.done.s(n) for n in range(width)])
        raise RuntimeError

    script(work)
    signal(workflows.scripted.s(), subject="camera")
    with Statements() as statements:
        sim.step()
    assert len(statements.texts) <= 7, str(statements)


def test_a_signal_costs_the_same_however_long_the_line(sim):
    costs = []
    for _ in range(3):
        with Statements() as statements:
            signal(workflows.done.s(), subject="camera")
        costs.append(len(statements.texts))
        for n in range(100):
            signal(workflows.done.s(n), subject="camera")
    # The first one opens the workflow, and the next ones find it.
    assert max(costs) <= 14
    with Statements() as statements:
        signal(workflows.done.s(), subject="camera")
    assert len(statements.texts) == costs[-1] <= 8, str(statements)


def test_the_end_of_a_signal_costs_the_same_however_long_the_line(sim):
    costs = set()
    for subject, length in (("a", 3), ("b", 300)):
        for n in range(length):
            signal(workflows.done.s(n), subject=subject)
        assert sim.in_flight
        with Statements() as statements:
            sim.step()
        costs.add(len(statements.texts))
        sim.lose_messages()
    assert len(costs) == 1


@pytest.mark.parametrize("width", [10, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_join_after_a_fan_out_opens_in_few_statements(sim, fan_out, width):
    fan_out(width, mode="non_blocking", last={"barrier": True})
    for _ in range(width - 1):
        sim.step()
    statements = cost_of_a_step(sim)
    assert sim.in_flight == 1
    assert len(statements.texts) <= 16, str(statements)


@NEEDED
@pytest.mark.parametrize("form", ["children", "chain", "chain with values"])
def test_a_hop_takes_a_claim_and_a_record(sim, fan_out, form):
    if form == "children":
        fan_out(5, mode="blocking")
    else:
        steps = [workflows.done.s(7)] + [
            workflows.done.si() if form == "chain" else workflows.done.s() for _ in range(4)
        ]
        signal(chain(*steps), subject="camera")
        sim.step()
    costs = [cost_of_a_step(sim) for _ in range(3)]
    # The claim; a lock of the parent, the record, and what becomes of it in one transaction.
    assert [len(cost.texts) for cost in costs] == [3] * 3, costs[0]


@NEEDED
def test_a_signal_to_a_subject_not_met_opens_its_run_in_one_statement(sim):
    with Statements() as statements:
        node = signal(workflows.done.s(), subject="a subject of its own")
    assert len(statements.texts) == 1, statements
    assert node.workflow.subject == "a subject of its own"


@NEEDED
def test_a_signal_without_a_subject_takes_one_statement(sim):
    with Statements() as statements:
        node = signal(workflows.done.s())
    assert len(statements.texts) == 1, statements
    assert node.workflow.closed_at == node.created_at


@NEEDED
@pytest.mark.parametrize("count", [2, 60])
def test_many_without_subjects_take_two(sim, count):
    with Statements() as statements:
        signal_many((workflows.done.s(n), {}) for n in range(count))
    assert len(statements.texts) == 2, statements
    assert Workflow.objects.filter(closed_at__isnull=False).count() == count


@NEEDED
def test_a_signal_finds_the_run_that_another_process_has_opened(sim, monkeypatch):
    first = signal(workflows.done.s(), subject="camera")
    monkeypatch.setattr(signals, "_recent", signals.RecentWorkflows())
    with Statements() as statements:
        second = signal(workflows.done.s(), subject="camera")
    assert (second.workflow_id, second.seq) == (first.workflow_id, 1)
    assert len(statements.texts) == 4, statements
    with Statements() as statements:
        third = signal(workflows.done.s(), subject="camera")
    assert (third.workflow_id, third.seq) == (first.workflow_id, 2)
    assert len(statements.texts) == 3, statements


@NEEDED
def test_a_signal_opens_a_new_run_where_the_one_that_was_met_has_ended(sim):
    first = signal(workflows.done.s(), subject="camera")
    sim.run()
    first.workflow.close()
    sim.run()
    second = signal(workflows.done.s(), subject="camera")
    assert second.workflow.run == first.workflow.run + 1


def test_recent_workflows_are_not_kept_without_end():
    recent = signals.RecentWorkflows()
    for number in range(2 * recent.MOST):
        recent.add(SimpleNamespace(name="order", subject=str(number)))
    assert recent.has(SimpleNamespace(name="order", subject=str(2 * recent.MOST - 1)))
    assert not recent.has(SimpleNamespace(name="order", subject="0"))
    assert len(recent._names) <= recent.MOST


@pytest.fixture
def refused(sim):
    """Claim an attempt of a node in vain, and give the statements that it took."""

    def claim_in_vain(node, attempt, task=workflows.done.name):
        message = NodeMessage(node.pk, task, attempt, node.alias, uuid4())
        with Statements() as statements:
            assert claim(message, worker="w", policy=policy_of(workflows.done)) is None
        return statements

    return claim_in_vain


@pytest.fixture
def complete(sim):
    """A node that is complete, of which a stale message may come."""
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"
    return node


@pytest.mark.parametrize("attempt", [1, 2])
def test_why_a_stale_message_is_stale_is_one_read(refused, complete, attempt):
    statements = refused(complete, attempt)
    updates = [text for text in statements.texts if text.lstrip().startswith("UPDATE")]
    assert len(updates) <= session.is_available(complete.alias) * (attempt == 1), str(statements)
    assert len(statements.texts) == len(updates) + 1, str(statements)


@NEEDED
@pytest.mark.parametrize("what", ["stale", "gone", "another task", "not due", "paused"])
def test_no_query_is_composed_to_tell_why_a_message_is_refused(
    sim, refused, complete, monkeypatch, what
):
    """Composing it took nearly all of the time that a stale message cost."""
    task = workflows.done.name
    if what == "gone":
        complete.pk = uuid4()
    elif what == "another task":
        task = workflows.plain.name
    elif what != "stale":
        complete = signal(workflows.done.s(), subject="late", delay=3600 * (what == "not due"))
        if what == "paused":
            complete.workflow.pause()
    if what != "paused":  # that writes the node's status
        monkeypatch.setattr(SQLCompiler, "as_sql", lambda *_, **__: pytest.fail("a query"))
    refused(complete, 1, task)
