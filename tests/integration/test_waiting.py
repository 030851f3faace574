"""The waiting graph: compared with the rules spelled out, and its cost behind long lines."""

from __future__ import annotations

import random

import pytest
from django.utils import timezone

from backbeat_celery import signal
from backbeat_celery.engine.order.links import has_open_link
from backbeat_celery.engine.order.waiting_graph import find_cycle, waits_for
from backbeat_celery.exceptions import LinkCycle
from backbeat_celery.inspection.doctor.cycles import cycle_findings
from backbeat_celery.models import Link, Node, Workflow
from backbeat_celery.models.lineage import LEVELS, lineage
from backbeat_celery.states import COUNTING, Status
from tests import workflows
from tests.counting import Statements, fetched, lines_of

pytestmark = pytest.mark.exact
STATUSES = ["ready", "ready", "running", "waiting", "failed", "complete"]


def forest(seed):
    """Random unfinished trees with links from any node to signals."""
    draw, now = random.Random(seed), timezone.now()
    nodes: list[Node] = []
    for number in range(3):
        workflow = Workflow.objects.create(
            name="w", subject=f"{seed} {number}", run=1, created_at=now
        )
        root = Node(
            workflow=workflow, id=workflow.pk, seq=0, stage=0, status="waiting", created_at=now
        )
        family, slots = [root], {}
        for _ in range(draw.randint(2, 7)):
            parent = draw.choice(family)
            seq = slots[parent.pk] = slots.get(parent.pk, -1) + 1
            barrier = draw.random() < 0.2
            mode = (
                "blocking"
                if barrier
                else draw.choice(["blocking", "non_blocking", "fire_and_forget"])
            )
            status = draw.choice(STATUSES)
            is_open = status != "complete"
            family.append(
                Node(
                    workflow=workflow,
                    parent_id=parent.pk,
                    awaited_by=parent.pk if is_open and mode in COUNTING else None,
                    seq=seq,
                    stage=0,
                    mode=mode,
                    barrier=barrier,
                    status=status,
                    created_at=now,
                    finished_at=None if is_open else now,
                )
            )
        nodes += family
    Node.objects.bulk_create(nodes)
    signals = [node for node in nodes if node.parent_id == node.workflow_id]
    sources = [node for node in nodes if node.parent_id is not None]
    pairs = {(draw.choice(sources).pk, draw.choice(signals).pk) for _ in range(draw.randint(1, 5))}
    Link.objects.bulk_create(Link(source_id=a, target_id=b) for a, b in pairs)
    return nodes, pairs


def waiting_edges(nodes, pairs):
    """The edges as the contract has them."""
    by_id = {node.pk: node for node in nodes}
    edges = {node.pk: set() for node in nodes}
    for node in nodes:
        if node.awaited_by:
            edges[node.awaited_by].add(node.pk)
        if node.status == Status.READY:
            edges[node.pk] |= {
                other.pk
                for other in nodes
                if other.awaited_by == node.parent_id
                and other.seq < node.seq
                and (node.barrier or other.mode == "blocking")
            }
    for source, target in pairs:
        if not by_id[source].finished_at and not by_id[target].finished_at:
            edges[source].add(target)
    return edges


def reached(edges, start):
    found, ahead = set(), [start]
    while ahead:
        ahead += edges[pk] - found if (pk := ahead.pop()) else ()
        found |= edges[pk]
    return found


def test_the_graph_is_that_of_the_rules(db):
    hits = 0
    for seed in range(8):
        nodes, pairs = forest(seed)
        edges = waiting_edges(nodes, pairs)
        beyond = {node.pk: reached(edges, node.pk) for node in nodes}
        sources = [node for node in nodes if not node.finished_at and node.parent_id][::3]
        for node in (node for node in nodes if node.parent_id == node.workflow_id):
            if node.finished_at:
                continue
            for source in sources:
                expected = source.pk == node.pk or source.pk in beyond[node.pk]
                assert waits_for(node, source, "default") == expected, seed
        for node in nodes:
            cycle = find_cycle(node.pk, "default")
            in_one = {pk for pk in {node.pk, *beyond[node.pk]} if pk in beyond[pk]}
            assert bool(cycle) == bool(in_one), seed
            hits += bool(cycle)
            for one, following in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
                assert following in beyond[one], seed
        found = list(cycle_findings("default", 100))
        assert bool(found) == any(node.pk in beyond[node.pk] for node in nodes), seed
        Link.objects.all().delete()
    assert hits


def line_of(count, subject):
    """A workflow whose first signal runs for long, with a line behind it."""
    first = signal(workflows.done.s(), subject=subject, delay=7200)
    row = Node.objects.get(pk=first.pk)
    behind = [
        Node(
            workflow_id=row.workflow_id,
            parent_id=row.parent_id,
            awaited_by=row.parent_id,
            seq=n,
            stage=n,
            task=row.task,
            name=row.name,
            mode="blocking",
            status="ready",
            created_at=row.created_at,
        )
        for n in range(1, count)
    ]
    Node.objects.bulk_create(behind)
    Node.objects.filter(pk=row.parent_id).update(next_seq=count, next_stage=count)
    return first


def test_a_link_behind_a_long_line_costs_what_one_behind_a_short_one_costs(sim, run_tree):
    def cost(count):
        waiting = run_tree({"delay": 3600})
        line_of(count, f"lens {count}")
        # The line has links of its own, which lead on to another line.
        line_of(count, f"film {count}")
        far = signal(workflows.done.s(), subject=f"film {count}")
        Link.objects.create(
            source=Workflow.objects.get(subject=f"lens {count}").nodes.get(
                seq=count // 2, parent__isnull=False
            ),
            target=far,
        )
        costs = []
        lines = lines_of(
            lambda: costs.append(
                measured(lambda: signal(workflows.done.s(), subject=f"lens {count}", link=waiting))
            )
        )
        waiting.cancel()
        return (*costs[0], lines)

    def measured(work):
        with Statements() as statements, fetched() as rows:
            work()
        return len(statements.texts), rows.rows

    cost(3)
    few, many = cost(20), cost(300)
    assert many[:2] == few[:2]
    assert many[2] < few[2] * 1.2


def test_a_circle_over_long_lines_is_refused(sim, run_tree):
    waiting = run_tree({"delay": 3600})
    line_of(500, "lens")
    here = signal(workflows.done.s(), subject="lens", link=waiting)
    line_of(500, "film")
    lens = here.workflow.nodes.get(seq=10, parent__isnull=False)
    signal(workflows.done.s(), subject="film", link=lens)
    far = Workflow.objects.get(subject="film").nodes.get(seq=3, parent__isnull=False)
    with pytest.raises(LinkCycle):
        signal(workflows.done.s(), subject="camera", name=waiting.workflow.name, link=far)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_each_end_of_many_linked_signals_costs_the_same(sim, run_tree, is_reversed):
    def cost(count):
        waiting = run_tree({"delay": 1})
        signals = [
            signal(workflows.done.s(), subject=f"lens {is_reversed} {count} {n}", delay=3600)
            for n in range(count)
        ]
        Link.objects.bulk_create(Link(source=waiting, target=one) for one in signals)
        sim.advance(seconds=2)
        costs = []
        for one in reversed(signals) if is_reversed else signals:
            waiting.refresh_from_db()
            assert waiting.status == "waiting"
            with fetched() as rows, Statements() as statements:
                one.cancel()
                sim.run()
            costs.append((rows.rows, len(statements.texts)))
        waiting.refresh_from_db()
        assert waiting.status == "complete"
        return max(costs[:-1])

    few, many = cost(3), cost(16)
    assert many[0] <= few[0] + 20
    assert many[1] <= few[1]


def test_the_last_of_many_links_is_seen_whatever_was_noted(sim, run_tree):
    waiting = run_tree({"delay": 3600})
    signals = [signal(workflows.done.s(), subject=f"lens {n}", delay=3600) for n in range(25)]
    Link.objects.bulk_create(Link(source=waiting, target=one) for one in signals)
    for one in signals[:-1]:
        one.cancel()
    assert has_open_link(waiting, settle=True)
    assert Link.objects.filter(settled=True).count() == 24
    assert has_open_link(waiting)
    signals[-1].cancel()
    assert not has_open_link(waiting)


def test_what_is_above_many_levels_is_read_in_few_statements(db):
    now = timezone.now()
    workflow = Workflow.objects.create(name="w", subject="camera", run=1, created_at=now)
    nodes = [Node(workflow=workflow, id=workflow.pk, seq=0, stage=0, created_at=now)]
    for _ in range(LEVELS * 2 + 10):
        above = nodes[-1].pk
        nodes.append(Node(workflow=workflow, parent_id=above, seq=0, stage=0, created_at=now))
    Node.objects.bulk_create(nodes)
    with Statements() as statements:
        found = lineage([nodes[-1].pk], "default")
    assert found.keys() == {node.pk for node in nodes}
    assert len(statements.texts) == 3
    assert len(lineage([nodes[-1].pk], "default", levels=4)) == 4
