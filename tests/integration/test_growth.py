"""What is done for many takes steps in proportion, and few statements."""

from __future__ import annotations

from itertools import count as counting

import pytest
from django.db import connection

from backbeat_celery import current_node, signal
from backbeat_celery.engine import advance
from backbeat_celery.models import Link, Node
from backbeat_celery.runtime.ids import uuid7
from backbeat_celery.verbs import add_child
from backbeat_celery.verbs import workflows as verbs
from tests import workflows
from tests.counting import Statements, fetched, lines_of

pytestmark = pytest.mark.exact
FEW, MANY = 40, 160
SLACK = 1.3
"""Times as much for each of many as for each of few that passes for the same."""


def in_proportion(few, many):
    """Whether the costs of FEW and of MANY are the same for each."""
    return many / MANY <= SLACK * few / FEW


@pytest.fixture
def scripted(sim, script):
    """Run a scripted handler, and give its node."""

    numbers = counting()

    def run(work):
        script(work)
        node = signal(workflows.scripted.s(), subject=f"camera {next(numbers)}")
        sim.run()
        node.refresh_from_db()
        return node

    return run


@pytest.mark.parametrize("spawn", ["spawn", "flag"])
def test_a_spawn_with_a_key_costs_the_same_after_many(scripted, spawn):
    def cost(count):
        def work(task):
            node = current_node()
            spawned = [
                lambda n=n: (
                    node.spawn(workflows.done.s(), key=f"key {n}", delay=3600)
                    if spawn == "spawn"
                    else node.flag("flag", key=f"key {n}", delay=3600)
                )
                for n in range(count)
            ]
            lines.append(lines_of(lambda: [one() for one in spawned]))
            assert len({one().id for one in spawned}) == count

        lines: list[int] = []
        assert scripted(work).children.count() == count
        return lines[0]

    assert in_proportion(cost(FEW), cost(MANY))


def test_keys_of_children_from_outside_are_read_once(sim, script):
    def cost(count):
        def work(task):
            if current_node().attempt == 1:
                raise RuntimeError
            with Statements() as statements:
                found = [
                    current_node().spawn(workflows.done.s(), key=f"key {n}").id
                    for n in range(count + 1)
                ]
            costs.append(len(statements.texts))
            assert found[:count] == [child.pk for child in outside]

        costs: list[int] = []
        script(work)
        node = signal(workflows.scripted.s(), subject=f"camera {count}")
        outside = [add_child(node, workflows.done.s(), key=f"key {n}") for n in range(count)]
        sim.advance(hours=1)
        assert node.children.count() == count + 1
        return costs[0]

    assert cost(2) == cost(9) == 1


def flags_behind(scripted, count, **options):
    """A parent whose first child is still to run, and flags behind that."""

    def work(task):
        current_node().spawn(workflows.done.s("first"), delay=60)
        for n in range(count):
            current_node().flag(f"flag {n}", **options)

    return scripted(work)


@pytest.mark.parametrize("mode", ["blocking", "non_blocking"])
def test_a_run_of_flags_takes_lines_in_proportion(sim, scripted, mode):
    def cost(count):
        node = flags_behind(scripted, count, mode=mode)
        first = node.children.get(seq=0)
        lines = lines_of(first.cancel)
        sim.run()
        assert set(node.children.values_list("status", flat=True)) == {"canceled", "complete"}
        assert node.children.filter(status="complete").count() == count
        return lines

    assert in_proportion(cost(FEW), cost(MANY))


def test_a_run_of_blocking_flags_takes_few_statements(sim, scripted):
    def cost(count):
        node = flags_behind(scripted, count)
        with Statements() as statements:
            node.children.get(seq=0).cancel()
        assert not node.children.unfinished().exists()
        return [text for text in statements.texts if not text.startswith("INSERT")]

    few, many = cost(30), cost(300)
    assert len(many) <= len(few) + 6, "\n".join(text[:150] for text in many)


def test_a_run_of_flags_ends_where_it_must(sim, scripted, statuses):
    def work(task):
        node = current_node()
        node.spawn(workflows.done.s("first"), delay=60)
        for n in range(30):
            node.flag(f"flag {n}", barrier=n == 7, mode="non_blocking" if n == 20 else "blocking")
        node.spawn(workflows.done.s("beside"), mode="non_blocking", delay=60)
        node.flag("past")
        node.flag("later", delay=3600)
        node.flag("behind")

    node = scripted(work)
    node.children.get(seq=0).cancel()
    assert statuses(node) == [
        "canceled",
        *["complete"] * 30,
        "queued",
        "complete",
        "queued",
        "ready",
    ]
    sim.advance(hours=2)
    node.refresh_from_db()
    assert node.status == "complete"


def test_a_barrier_ends_a_run_of_flags_while_something_counts(sim, scripted, statuses):
    def work(task):
        node = current_node()
        node.spawn(workflows.done.s("first"), delay=60)
        node.flag("one")
        node.spawn(workflows.done.s("beside"), mode="non_blocking", delay=600)
        node.flag("two")
        node.flag("three", barrier=True)
        node.flag("four")

    node = scripted(work)
    node.children.get(seq=0).cancel()
    assert statuses(node) == ["canceled", "complete", "queued", "complete", "ready", "ready"]
    sim.advance(seconds=601)
    assert statuses(node) == ["canceled", *["complete"] * 5]


def test_a_paused_workflow_queues_the_first_flag_of_a_run(sim, scripted, statuses):
    node = flags_behind(scripted, 3)
    node.workflow.pause()
    node.children.get(seq=0).cancel()
    assert statuses(node) == ["canceled", "queued", "ready", "ready"]


def test_a_shutdown_gives_up_a_long_line_in_parts(sim, scripted, statuses, monkeypatch):
    for module in ("engine.order.cancel", "verbs.nodes"):
        monkeypatch.setattr(f"backbeat_celery.{module}.BATCH", 12)

    def work(task):
        current_node().spawn(workflows.fatal.s())
        current_node().spawn_many([workflows.done.s(n) for n in range(50)])

    node = scripted(work)
    with fetched() as rows:
        node.children.get(seq=0).shutdown()
    assert rows.most <= 12
    assert statuses(node) == ["complete", *["canceled"] * 50]
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite counts the steps of its machine")
@pytest.mark.parametrize("verb", ["cancel", "delete"])
def test_ending_a_workflow_takes_steps_in_proportion_to_its_signals(sim, monkeypatch, verb):
    def cost(count):
        for number in range(count):
            node = signal(workflows.done.s(), subject=f"{verb} {count}", key=f"{number}")
        steps = counting()
        connection.connection.set_progress_handler(lambda: next(steps) and 0, 10)
        try:
            getattr(node.workflow, verb)()
        finally:
            connection.connection.set_progress_handler(None, 0)
        assert not Node.objects.filter(task=workflows.done.name).unfinished().exists()
        return next(steps)

    monkeypatch.setattr(verbs, "BATCH", 5)
    assert in_proportion(cost(FEW), cost(MANY))


def test_a_wide_stage_is_read_and_published_in_parts(sim, scripted, monkeypatch):
    for module in ("order.turns", "delivery.wide_stages"):
        monkeypatch.setattr(f"backbeat_celery.engine.{module}.AT_ONCE", 12)

    def work(task):
        current_node().spawn(workflows.done.s("first"), delay=60)
        current_node().spawn_many([workflows.done.s(n) for n in range(50)], mode="non_blocking")
        current_node().flag("last", barrier=True)

    node = scripted(work)
    with fetched() as rows:
        node.children.get(seq=0).cancel()
        assert sim.in_flight == 1 + 50
    assert rows.most <= 12
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"
    assert len(sim.calls) == 1 + 50


def deep(depth, **options):
    """A chain of waiting nodes, each the parent of the next, with a queued one at its end."""
    node = signal(workflows.done.s(), subject=f"deep {depth}", delay=60, **options)
    top = Node.objects.get(pk=node.pk)
    chain = [top]
    for _ in range(depth):
        row = Node.objects.get(pk=top.pk)
        row.pk, row.parent_id, row.awaited_by, row.seq = uuid7(), chain[-1].pk, chain[-1].pk, 0
        chain.append(row)
    for row in chain[:-1]:
        row.status, row.next_seq, row.next_stage = "waiting", 1, 1
        row.fires_at = row.publish_at = None
    Node.objects.bulk_create(chain[1:])
    top.save()
    return chain


@pytest.fixture
def climbs(monkeypatch):
    """How many nodes each advance has looked at, with a limit that small trees reach."""
    found = [0]

    def note(*args, **kwargs):
        found[-1] += 1
        return real_look(*args, **kwargs)

    def end(*args):
        found.append(0)
        real_announce(*args)

    real_look, real_announce = advance.try_complete, advance.announce
    monkeypatch.setattr(advance, "try_complete", note)
    monkeypatch.setattr(advance, "announce", end)
    monkeypatch.setattr(advance, "MAX_STEPS", 10)
    return found


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_long_climb_is_cut_into_pieces(sim, climbs, monkeypatch, is_lost):
    chain = deep(25)
    if is_lost:
        monkeypatch.setattr(sim, "call_task", lambda *args, **kwargs: None)
    sim.advance(minutes=3)
    assert {Node.objects.get(pk=row.pk).status for row in chain} == {"complete"}
    assert max(climbs) == 10
    assert len(sim.calls) == 1


def test_many_that_wait_for_one_are_looked_at_in_pieces(sim, climbs):
    far = signal(workflows.done.s(), subject="lens", delay=60)
    waiting = []
    for n in range(18):
        node = signal(workflows.done.s(), subject=f"camera {n}")
        Link.objects.create(source=node, target=far)
        waiting.append(node.pk)
    Node.objects.filter(pk__in=waiting).update(
        status="waiting", publish_at=None, next_seq=1, next_stage=1
    )
    sim.advance(seconds=60)
    assert set(Node.objects.filter(pk__in=waiting).values_list("status", flat=True)) == {
        "complete"
    }
    assert max(climbs) == 10


def test_the_rest_of_a_climb_goes_the_way_of_its_nodes(sim, climbs, monkeypatch):
    calls = []
    monkeypatch.setattr(sim, "call_task", lambda *args, **kwargs: calls.append((args, kwargs)))
    chain = deep(25)
    Node.objects.filter(pk__in=[row.pk for row in chain]).update(options={"queue": "far"})
    sim.advance(minutes=2)
    ((name, queue), kwargs) = calls[0]
    assert (name, queue) == ("backbeat.advance", "far")
    assert kwargs == {"using": "default", "maybe_complete": [str(chain[14].pk)]}
