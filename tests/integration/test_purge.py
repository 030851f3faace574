"""The purge: what it deletes, what it keeps, and that nothing is left behind or broken."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from backbeat_celery import current_node, signal
from backbeat_celery.inspection.doctor import examine
from backbeat_celery.models import Attempt, Link, Node, Transition, Workflow
from backbeat_celery.retention.purge import delete_workflow_rows, purge
from tests import workflows
from tests.counting import Statements, fetched
from tests.stateful.invariants import broken_now

PARALLEL = {"mode": "non_blocking"}


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(sim):
    yield
    nodes = set(Node.objects.values_list("pk", flat=True))
    assert set(Transition.objects.values_list("node_id", flat=True)) <= nodes
    assert set(Attempt.objects.values_list("node_id", flat=True)) <= nodes
    assert broken_now() == []
    assert [str(found) for found in examine(wait=0).findings if found.check != "overdue"] == []


def finished(sim, subject="camera", task=None, **options):
    """A workflow that is closed and finished now."""
    node = signal(task or workflows.done.s(), subject=subject, **options)
    sim.run()
    node.workflow.close()
    sim.run()
    workflow = Workflow.objects.get(pk=node.workflow_id)
    assert workflow.finished_at is not None
    return workflow


def rows():
    return [model.objects.count() for model in (Workflow, Node, Transition, Attempt, Link)]


def test_a_finished_workflow_goes_after_its_retention_with_all_its_rows(sim):
    shape = {"spawn": [{"shape": {"spawn": [PARALLEL, {"flag": "f"}]}}, PARALLEL]}
    finished(sim, task=workflows.tree.s(shape))
    sim.advance(days=89)
    assert not purge()
    sim.advance(days=2)
    counts = purge()
    assert (counts.workflows, counts.signals, counts.nodes, counts.attempts) == (1, 0, 6, 4)
    assert counts.transitions > 6
    assert rows() == [0, 0, 0, 0, 0]


def test_the_retention_is_a_setting_and_an_argument(sim):
    finished(sim)
    sim.advance(days=3)
    with override_settings(BACKBEAT={"RETENTION": 4, "KEY_RETENTION": 0}):
        assert not purge()
        assert purge(days=2).workflows == 1
    finished(sim)
    sim.advance(days=3)
    with override_settings(BACKBEAT={"RETENTION": 2}):
        assert purge().workflows == 1


@pytest.mark.parametrize("batch", [1, 2, 7, 500])
def test_batches_of_any_size_delete_the_same(sim, batch):
    shape = {"spawn": [{**PARALLEL, "shape": {"spawn": [PARALLEL] * 5}}] * 3}
    for number in range(3):
        finished(sim, subject=f"camera {number}", task=workflows.tree.s(shape))
    sim.advance(days=91)
    steps = []
    counts = purge(batch=batch, on_progress=lambda so_far: steps.append(so_far.nodes))
    assert (counts.workflows, counts.nodes) == (3, 3 * 20)
    assert rows() == [0, 0, 0, 0, 0]
    assert steps == sorted(steps)
    assert all(after - before <= batch for before, after in pairwise(steps))


def test_a_dry_run_counts_what_would_go_and_deletes_nothing(sim):
    finished(sim, task=workflows.tree.s({"spawn": [{"shape": {"spawn": [PARALLEL]}}]}))
    node = signal(workflows.tree.s({"spawn": [PARALLEL]}), subject="lens")
    signal(workflows.done.s(), subject="lens", name=node.workflow.name, delay=10**8)
    sim.advance(days=91)
    before = rows()
    said = purge(dry_run=True)
    assert rows() == before
    assert (said.workflows, said.signals, said.nodes) == (1, 1, 6)
    assert purge() == said


def test_a_signal_of_an_open_workflow_goes_with_its_tree_and_the_line_goes_on(sim):
    node = signal(workflows.tree.s({"spawn": [{"barrier": True}]}), subject="camera")
    sim.advance(days=91)
    name = node.workflow.name
    young = signal(workflows.done.s(), subject="camera", name=name)
    sim.run()
    assert purge().signals == 1
    assert [child.pk for child in node.workflow.root.children.all()] == [young.pk]
    late = signal(workflows.done.s(), subject="camera", name=name)
    sim.run()
    late.refresh_from_db()
    assert (late.seq, late.stage, late.status) == (2, 2, "complete")


def test_the_last_signal_may_go_and_the_next_one_gets_a_new_place(sim):
    for _ in range(3):
        signal(workflows.done.s(), subject="camera")
    sim.advance(days=91)
    assert purge().signals == 3
    assert broken_now() == []
    late = signal(workflows.done.s(), subject="camera")
    assert (late.seq, late.stage) == (3, 3)


def test_canceled_and_failed_signals(sim):
    broken = signal(workflows.fatal.s(), subject="camera")
    gone = signal(workflows.done.s(), subject="camera", name=broken.workflow.name)
    gone.cancel()
    sim.advance(days=91)
    assert purge().signals == 1
    assert Node.objects.filter(parent__isnull=False).get() == broken


@pytest.mark.parametrize("unfinished", [True, False])
def test_a_signal_stays_while_something_below_it_is_younger(sim, unfinished):
    days = 365 if unfinished else 80
    forget = {"mode": "fire_and_forget", "delay": 86400 * days}
    shape = {"spawn": [{"shape": {"spawn": [forget]}}]}
    node = signal(workflows.tree.s(shape), subject="camera")
    other = signal(workflows.done.s(), subject="camera", name=node.workflow.name)
    sim.advance(days=100)
    node.refresh_from_db()
    assert node.status == "complete"
    assert purge().signals == 1
    assert not Node.objects.filter(pk=other.pk).exists()
    assert node.workflow.nodes.count() == 4
    sim.advance(days=400)
    assert purge().signals == 1


def test_a_purge_reads_nothing_of_young_signals(sim):
    shape = {"spawn": [PARALLEL] * 5}

    def cost(signals):
        for _ in range(signals):
            signal(workflows.tree.s(shape), subject="camera", name="shop")
        sim.run()
        with fetched() as rows:
            assert not purge()
        return rows.rows

    assert cost(2) == cost(10)


def test_a_purge_climbs_from_what_is_younger_in_few_statements(sim):
    def cost(depth):
        shape = {"spawn": [{"mode": "fire_and_forget", "delay": 86400 * 200}]}
        for _ in range(depth):
            shape = {"spawn": [{"shape": shape}]}
        signal(workflows.tree.s(shape), subject=f"camera {depth}", name="shop")
        sim.advance(days=100)
        with Statements() as statements:
            assert not purge()
        sim.advance(days=300)
        assert purge()
        return len(statements.texts)

    assert cost(3) == cost(30)


def test_a_finished_workflow_stays_while_something_in_it_is_younger(sim):
    forget = {"mode": "fire_and_forget", "delay": 86400 * 80}
    finished(sim, task=workflows.tree.s({"spawn": [forget]}))
    sim.advance(days=91)
    assert not purge()
    sim.advance(days=80)
    assert purge().workflows == 1


def test_a_key_stays_as_long_as_it_may_be_used(sim):
    with override_settings(BACKBEAT={"RETENTION": 10, "KEY_RETENTION": 30}):
        first = signal(workflows.done.s(), subject="camera", key="order 7")
        signal(workflows.done.s(), subject="camera")
        sim.advance(days=20)
        assert purge().signals == 1
        assert signal(workflows.done.s(), subject="camera", key="order 7") == first
        sim.advance(days=11)
        assert purge().signals == 1


def test_a_finished_workflow_with_a_young_key_stays(sim):
    with override_settings(BACKBEAT={"RETENTION": 10, "KEY_RETENTION": 30}):
        finished(sim, key="order 7")
        sim.advance(days=20)
        assert not purge()
        sim.advance(days=11)
        assert purge().workflows == 1


@pytest.mark.parametrize("is_closed", [True, False])
def test_what_a_live_tree_links_to_stays(sim, is_closed):
    forget = {"spawn": [{"delay": 86400 * 200}]}
    waiting = signal(workflows.tree.s(forget), subject="lens")
    target = signal(workflows.done.s(), subject="camera", link=waiting)
    alone = signal(workflows.done.s(), subject="camera")
    sim.run()
    if is_closed:
        target.workflow.close()
        sim.run()
    sim.advance(days=91)
    counts = purge()
    assert (counts.workflows, counts.signals) == (0, 0 if is_closed else 1)
    assert Node.objects.filter(pk=target.pk).exists()
    assert Node.objects.filter(pk=alone.pk).exists() is is_closed
    sim.advance(days=300)
    counts = purge()
    assert counts.links == 1
    counts += purge()  # what was linked goes once the linking tree is gone
    assert not Node.objects.filter(pk=target.pk).exists()


def test_an_unfinished_workflow_stays(sim):
    node = signal(workflows.done.s(), subject="camera", delay=86400 * 365)
    node.workflow.close()
    sim.advance(days=200)
    assert not purge()


def test_a_purge_that_was_cut_short_goes_on(sim):
    shape = {"spawn": [{"shape": {"spawn": [PARALLEL] * 5}}] * 2}
    finished(sim, task=workflows.tree.s(shape))
    signal(workflows.tree.s(shape), subject="lens")
    sim.advance(days=91)

    def die(so_far):
        if so_far.nodes >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        purge(batch=2, on_progress=die)
    assert broken_now() == []
    assert examine(wait=0).is_healthy
    purge(batch=2)
    assert rows()[:2] == [1, 1]


@pytest.mark.slow
def test_a_deep_tree_goes_without_recursion(sim, script):
    def deeper(task):
        if Node.objects.count() < 300:
            current_node().spawn(workflows.scripted.s())

    script(deeper)
    finished(sim, task=workflows.scripted.s())
    sim.advance(days=91)
    assert purge().nodes == Node.objects.count() + 300
    assert not Node.objects.exists()


def test_deleting_the_rows_of_a_workflow_takes_everything(sim):
    node = signal(workflows.tree.s({"spawn": [{"shape": {"spawn": [{"delay": 9}]}}]}), subject="a")
    far = signal(workflows.done.s(), subject="b", link=node, delay=9)
    sim.run()
    counts = delete_workflow_rows([node.workflow_id], "default")
    assert (counts.workflows, counts.nodes, counts.links) == (1, 4, 1)
    assert list(Workflow.objects.all()) == [far.workflow]


def run(*arguments):
    out = StringIO()
    call_command("backbeat_purge", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_tells_what_it_did(sim):
    finished(sim)
    sim.advance(days=91)
    assert run("--dry-run").startswith(
        "Would delete what was finished for more than 90 days: 1 workflows, 0 signals, 2 nodes,"
    )
    assert rows()[0] == 1
    assert run("--batch=1").startswith("Deleted what was finished for more than 90 days: 1 work")
    finished(sim)
    sim.advance(seconds=1)
    assert "more than 0 days: 1 workflows" in run("--older-than=0")


@pytest.mark.parametrize(
    "arguments", ["--older-than=-1", "--older-than=nan", "--batch=0", "--database=nowhere"]
)
def test_the_command_refuses_what_it_cannot_use(db, arguments):
    with pytest.raises(CommandError):
        run(arguments)


def test_the_command_draws_a_bar_on_a_terminal(sim):
    class Terminal(StringIO):
        def isatty(self):
            return True

    finished(sim)
    sim.advance(days=91)
    screen = Terminal()
    call_command("backbeat_purge", stdout=StringIO(), stderr=screen)
    assert "█ 100% 2 nodes" in screen.getvalue()


def test_old_rows_of_an_age_that_is_just_reached(sim):
    finished(sim)
    sim.advance(days=90)
    assert not purge()
    sim.advance(timedelta(seconds=1))
    assert purge().workflows == 1
