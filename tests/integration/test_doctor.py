"""The doctor: a healthy database gives nothing; each fault is found, and repaired if it can be."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db.models import F

from backbeat_celery import signal
from backbeat_celery.inspection.doctor import CHECKS, canvas, examine
from backbeat_celery.models import (
    Attempt,
    Link,
    Node,
    SweeperLease,
    Transition,
    WorkerHeartbeat,
    Workflow,
)
from backbeat_celery.states import Status
from tests import workflows
from tests.stages import STAGES, staged

PARALLEL = {"mode": "non_blocking"}


def run(*arguments, **options):
    """Run the command; give what it printed and its exit status."""
    out = StringIO()
    status = 0
    try:
        call_command(
            "backbeat_doctor", *arguments, "--wait=0", stdout=out, no_color=True, **options
        )
    except SystemExit as exit_:
        status = exit_.code
    return out.getvalue(), status


def everything(sim, run_tree):
    """Nodes of all kinds and statuses."""
    for status in STAGES:
        staged(sim, status)
        Workflow.objects.filter(subject="camera").update(subject=status)
    run_tree(
        {"shape": {"fail_until": 2, "spawn": [PARALLEL, {"flag": "f"}]}},
        {"flag": "g", **PARALLEL},
        {"barrier": True},
        {"mode": "fire_and_forget", "delay": 60},
        {"barrier": True, "delay": 30},
        {"flag": "h"},
        name="kinds",
    )
    waiting = signal(workflows.linking.s("lens"), subject="camera", name="links")
    sim.kill_next("in_handler")
    signal(workflows.flaky.s(9), subject="film")
    sim.run()
    closed = signal(workflows.done.s(), subject="closed").workflow
    sim.run()
    closed.close()
    sim.advance(minutes=2)
    assert waiting.transitions.exists()


def test_a_healthy_database_gives_nothing(sim, run_tree):
    everything(sim, run_tree)
    assert [str(found) for found in examine(wait=0).findings] == []
    assert run() == (f"{len(CHECKS)} checks: 0 broken, 0 fixed, 0 hints.\n", 0)


@pytest.mark.parametrize("status", list(STAGES))
def test_every_stage_is_healthy_by_itself(sim, status):
    staged(sim, status)
    assert [str(found) for found in examine(wait=0).findings] == []


@pytest.mark.parametrize("verb", ["resolve", "shutdown"])
def test_a_settled_node_that_waits_for_its_children_is_healthy(sim, verb):
    node = signal(workflows.fatal.s(), subject="camera")
    sim.run()
    node.refresh_from_db()
    node.add_child(workflows.done.s(), delay=60)
    getattr(node, verb)()
    sim.run()
    node.refresh_from_db()
    assert node.status == Status.WAITING
    assert [str(found) for found in examine(wait=0).findings] == []


def break_step(sim, node):
    Transition.objects.create(
        node=node, from_status="canceled", to_status="running", at=sim.now, attempt=1
    )


def break_gap(sim, node):
    node.transitions.filter(to_status="complete").update(from_status="waiting")


def break_beginning(sim, node):
    Transition.objects.filter(pk=node.transitions.order_by("pk").first().pk).update(
        from_status="failed"
    )


def break_attempt(sim, node):
    Attempt.objects.filter(node=node).update(number=7)


def accept_twice(sim, node):
    Attempt.objects.create(node=node, number=0, outcome="succeeded")


def write(**values):
    """Change columns by hand."""

    def change(sim, node):
        Node.objects.filter(pk=node.pk).update(**values)

    return change


def write_last_child(**values):
    def change(sim, node):
        last = node.children.order_by("-seq").first()
        Node.objects.filter(pk=last.pk).update(**values)

    return change


def write_workflow(**values):
    def change(sim, node):
        Workflow.objects.filter(pk=node.workflow_id).update(**values)

    return change


def link_open(sim, node):
    far = signal(workflows.done.s(), subject="lens", delay=600)
    Link.objects.create(source=node, target=far)


def queue_second(sim, node):
    behind = signal(workflows.done.s(), subject="camera", name=node.workflow.name)
    Node.objects.filter(pk=behind.pk).update(status="queued", publish_at=sim.now)


def start_before(sim, node):
    behind = signal(workflows.done.s(), subject="camera", name=node.workflow.name)
    sim.run()
    Node.objects.filter(pk=behind.pk).update(started_at=sim.now - timedelta(hours=1))


def add_barrier(sim, node):
    node.add_child(workflows.done.s(), barrier=True)
    Node.objects.filter(pk=node.pk).update(next_barrier=None)


def open_barrier(sim, node):
    barrier = node.add_child(workflows.done.s(), barrier=True)
    node.children.exclude(pk=barrier.pk).update(mode="non_blocking")
    Node.objects.filter(pk=barrier.pk).update(status="queued", publish_at=sim.now, stage=1)


def forget_node(sim, node):
    Node.objects.filter(pk=node.pk)._raw_delete("default")


def other_workflow(sim, node):
    other = Workflow.objects.for_subject("other", "other")
    Node.objects.filter(pk=node.pk).update(workflow=other)


def no_workflow(sim, node):
    Workflow.objects.filter(pk=node.workflow_id)._raw_delete("default")


def no_root(sim, node):
    Node.objects.filter(pk=node.pk).update(parent=None, awaited_by=None)


def another_root(sim, node):
    alone = Workflow.objects.create(name="alone", subject="alone", run=1, created_at=sim.now)
    assert alone.pk


FAULTS = [
    # name of the check, the stage to begin with, the change, whether --fix repairs it
    ("disallowed-transition", Status.COMPLETE, break_step, False),
    ("transition-gap", Status.COMPLETE, break_gap, False),
    ("first-transition", Status.COMPLETE, break_beginning, False),
    (
        "status-mismatch",
        Status.COMPLETE,
        write(status="failed", finished_at=None, outcome=""),
        False,
    ),
    ("status-mismatch", Status.QUEUED, write(status="failed"), False),
    ("status-mismatch", Status.FAILED, write(status="running"), False),
    ("accepted-twice", Status.COMPLETE, accept_twice, False),
    ("stale-attempt", Status.COMPLETE, write(attempt=0), False),
    ("stale-attempt", Status.FAILED, write(attempt=0), False),
    ("missing-attempt", Status.COMPLETE, break_attempt, False),
    ("missing-transition", Status.COMPLETE, accept_twice, False),
    ("claim-mismatch", Status.RUNNING, write(claim_id=None), True),
    ("claim-mismatch", Status.QUEUED, write(claim_id="0" * 32), True),
    ("missing-lease", Status.RUNNING, write(lease_expires_at=None, times_out_at=None), True),
    ("queued-too-early", Status.QUEUED, queue_second, False),
    ("barrier-too-early", Status.WAITING, open_barrier, False),
    ("overlapping-siblings", Status.COMPLETE, start_before, False),
    ("stage-mismatch", Status.WAITING, write_last_child(stage=5), False),
    ("counter-mismatch", Status.WAITING, write(next_seq=0), True),
    ("counter-mismatch", Status.WAITING, write(next_stage=0), True),
    ("missing-next-barrier", Status.WAITING, add_barrier, True),
    ("finished-at-mismatch", Status.COMPLETE, write(finished_at=None), True),
    ("finished-at-mismatch", Status.QUEUED, write(finished_at="2020-01-01T00:00Z"), True),
    ("awaited-by-mismatch", Status.QUEUED, write(awaited_by=None), True),
    ("awaited-by-mismatch", Status.COMPLETE, write(awaited_by=F("parent_id")), True),
    ("outcome-mismatch", Status.QUEUED, write(outcome="succeeded"), True),
    ("outcome-mismatch", Status.COMPLETE, write(outcome=""), True),
    ("unfinished-link", Status.COMPLETE, link_open, False),
    ("missing-message", Status.QUEUED, write(publish_at=None), True),
    ("workflow-mismatch", Status.QUEUED, other_workflow, False),
    ("missing-workflow", Status.QUEUED, no_workflow, False),
    ("extra-root", Status.QUEUED, no_root, False),
    ("missing-root", Status.QUEUED, another_root, False),
    ("run-mismatch", Status.QUEUED, write_workflow(unfinished=None), True),
    ("run-mismatch", Status.QUEUED, write_workflow(finished_at="2020-01-01T00:00Z"), True),
    ("orphan-transition", Status.COMPLETE, forget_node, True),
    ("orphan-attempt", Status.COMPLETE, forget_node, True),
]


@pytest.mark.parametrize(
    ("check", "stage", "change", "repairs"),
    FAULTS,
    ids=[f"{name}-{stage}-{number}" for number, (name, stage, *_) in enumerate(FAULTS)],
)
def test_each_fault_is_found_and_repaired_if_it_can_be(sim, check, stage, change, repairs):
    node = staged(sim, stage)
    change(sim, node)
    found = [finding for finding in examine(wait=0).findings if finding.check == check]
    assert found, [str(finding) for finding in examine(wait=0).findings]
    assert not any(finding.is_fixed for finding in found)
    fixed = [finding for finding in examine(fix=True).findings if finding.check == check]
    assert [finding.is_fixed for finding in fixed] == [repairs] * len(found)
    assert repairs or all(finding.advice for finding in fixed)
    again = {finding.check for finding in examine(wait=0).findings}
    assert (check in again) is not repairs


def test_all_checks_have_a_fault_in_these_tests():
    elsewhere = {
        "stuck-waiting",
        "stuck-ready",
        "stuck-pending",
        "stuck-paused",
        "unfinished-below-canceled",
        "started-after-cancel",
    }
    elsewhere |= {"unaccepted-attempt", "started-before-parent", "unfinished-child"}
    elsewhere |= {check.name for check in canvas.CHECKS}
    assert {check.name for check in CHECKS} == {fault[0] for fault in FAULTS} | elsewhere


def findings(check, **options):
    return [found for found in examine(wait=0, **options).findings if found.check == check]


def repaired(check):
    """Mend one kind of fault; assert that it was there and is gone."""
    assert findings(check)
    assert all(found.is_fixed for found in findings(check, fix=True))
    return not findings(check)


def test_a_parent_that_waits_in_vain_is_completed(sim):
    node = staged(sim, Status.WAITING)
    child = node.children.get()
    child.transitions.create(from_status="queued", to_status="canceled", at=sim.now, attempt=0)
    Node.objects.filter(pk=child.pk).update(
        status="canceled", finished_at=sim.now, awaited_by=None, publish_at=None
    )
    assert repaired("stuck-waiting")
    node.refresh_from_db()
    assert node.status == "complete"


def test_the_root_of_a_closed_workflow_is_completed(sim):
    workflow = staged(sim, Status.COMPLETE).workflow
    Workflow.objects.update(closed_at=sim.now)
    assert repaired("stuck-waiting")
    workflow.refresh_from_db()
    assert workflow.unfinished is None


@pytest.mark.parametrize("barrier", [True, False])
def test_what_has_its_turn_is_queued(sim, run_tree, barrier):
    node = run_tree({"flag": "a", "delay": 60}, {"barrier": barrier})
    first, second = node.children.order_by("seq")
    first.transitions.create(from_status="queued", to_status="canceled", at=sim.now, attempt=0)
    Node.objects.filter(pk=first.pk).update(
        status="canceled", finished_at=sim.now, awaited_by=None, publish_at=None
    )
    assert repaired("stuck-ready")
    second.refresh_from_db()
    assert second.status == "queued"
    assert examine(wait=0).is_healthy


def test_pending_children_of_an_accepted_node_are_released(sim):
    node = staged(sim, Status.WAITING)
    child = node.add_child(workflows.done.s())
    Node.objects.filter(pk=child.pk).update(status="pending")
    assert repaired("stuck-pending")


def test_what_is_paused_in_a_workflow_that_goes_on_is_queued(sim):
    node = staged(sim, Status.PAUSED)
    Workflow.objects.update(paused_at=None)
    assert repaired("stuck-paused")
    sim.run()
    node.refresh_from_db()
    assert node.status == "complete"


def test_what_goes_on_below_a_canceled_node_is_canceled(sim):
    node = staged(sim, Status.WAITING)
    node.transitions.create(from_status="waiting", to_status="canceled", at=sim.now, attempt=1)
    Node.objects.filter(pk=node.pk).update(status="canceled", finished_at=sim.now, awaited_by=None)
    assert repaired("unfinished-below-canceled")
    assert node.children.get().status == "canceled"
    assert examine(wait=0).is_healthy


def test_a_start_after_the_cancel_is_found(sim):
    node = staged(sim, Status.CANCELED)
    Node.objects.filter(pk=node.pk).update(started_at=sim.now + timedelta(hours=1))
    assert [found.invariant for found in findings("started-after-cancel")] == [8]


def test_a_child_of_a_failed_attempt_is_found(sim):
    node = staged(sim, Status.WAITING)
    node.children.update(spawned_by=3)
    assert [found.invariant for found in findings("unaccepted-attempt")] == [6]


def test_a_child_that_began_before_its_parent_is_found(sim):
    child = staged(sim, Status.PENDING)
    Node.objects.filter(pk=child.pk).update(status="queued", publish_at=sim.now)
    assert [found.invariant for found in findings("started-before-parent")] == [6]


def test_a_parent_that_was_complete_too_early_is_found(sim):
    node = staged(sim, Status.WAITING)
    Node.objects.filter(pk=node.pk).update(status="complete", finished_at=sim.now)
    assert str(node.children.get().pk) in findings("unfinished-child")[0].subject


def test_a_circle_of_links_is_found_with_its_names(sim):
    from tests.integration.test_explain import circle

    one, two = circle(sim)
    alone = signal(workflows.tree.s({"spawn": [{"delay": 60}]}), subject="film")
    signal(workflows.done.s(), subject="tripod", link=alone, delay=60)
    (found,) = findings("cycle")
    assert str(one.pk) in found.problem
    assert str(two.pk) in found.problem
    assert str(alone.pk) not in found.problem


@pytest.mark.parametrize("column", ["publish_at", "lease_expires_at", "times_out_at"])
def test_what_no_sweep_has_seen_to_is_found(sim, column):
    node = staged(sim, Status.RUNNING if column == "lease_expires_at" else Status.QUEUED)
    Node.objects.filter(pk=node.pk).update(**{column: sim.now - timedelta(minutes=12)})
    assert "no sweep has handled them" in findings("overdue")[0].problem


def test_a_silent_sweeper_is_a_hint(db):
    signal(workflows.done.s(), subject="camera")
    assert "never seen" in findings("no-sweeper")[0].problem
    SweeperLease.objects.create(swept_at="2020-01-01T00:00Z")
    (found,) = findings("no-sweeper")
    assert "last seen at 2020" in found.problem
    assert not found.is_serious
    assert run()[1] == 0


def test_tasks_that_nobody_knows_are_named(sim):
    node = staged(sim, Status.QUEUED)
    Node.objects.filter(pk=node.pk).update(task="no.such.task")
    (hint,) = findings("unregistered-task")
    assert (hint.subject, hint.is_serious) == ("task no.such.task", False)
    Node.objects.filter(pk=node.pk).update(times_out_at=sim.now + timedelta(hours=1))
    assert findings("refused-task")[0].is_serious


@pytest.mark.parametrize(
    ("workers", "is_heard"),
    [
        ([["celery"]], False),
        ([["celery"], ["reports"]], True),
        ([["celery"], None], True),  # one that does not say may listen
        ([], True),  # nobody at all is another finding
    ],
)
def test_a_queue_that_no_worker_listens_to_is_hinted_at(sim, workers, is_heard):
    signal(workflows.done.s().set(queue="reports"), subject="camera")
    signal(workflows.done.s().set(queue="later"), subject="later", delay=3600)
    for number, queues in enumerate(workers):
        WorkerHeartbeat.objects.create(
            name=f"w{number}", queues=queues, started_at=sim.now, seen_at=sim.now
        )
    WorkerHeartbeat.objects.create(
        name="dead", queues=["reports"], started_at=sim.now, seen_at=sim.now - timedelta(minutes=9)
    )
    found = findings("queue-without-worker")
    assert [(hint.subject, hint.is_serious) for hint in found] == (
        [] if is_heard else [("queue reports", False)]
    )


def test_a_run_whose_successor_is_open_cannot_be_reopened(sim):
    node = staged(sim, Status.QUEUED)
    Workflow.objects.update(unfinished=None)
    signal(workflows.done.s(), subject="camera", name=node.workflow.name, delay=60)
    (found,) = findings("run-mismatch", fix=True)
    assert not found.is_fixed
    assert "Another run of it is open" in str(found)


def test_findings_are_limited_and_the_rest_is_told(sim):
    for number in range(5):
        signal(workflows.done.s(), subject=f"camera {number}", delay=60)
    Node.objects.filter(status="queued").update(publish_at=None)
    report = examine(wait=0, most=3)
    assert len(report.findings) == 3
    assert list(report.more) == ["missing-message"]
    text, status = run("--most=3")
    assert status == 1
    assert "message: there are more" in text


def test_the_command_repairs_and_says_so(sim):
    staged(sim, Status.QUEUED)
    Node.objects.filter(status="queued").update(publish_at=None)
    text, status = run()
    assert status == 1
    assert "has no time for its next message" in text
    text, status = run("--fix")
    assert status == 0
    assert "(fixed)" in text
    assert "0 broken, 1 fixed" in text


def test_the_command_speaks_json(sim):
    node = staged(sim, Status.COMPLETE)
    break_gap(sim, node)
    text, status = run("--json")
    data = json.loads(text)
    assert status == 1
    assert data["healthy"] is False
    assert {found["check"] for found in data["findings"]} == {
        "transition-gap",
        "missing-transition",
    }


def test_what_the_sweeper_repairs_meanwhile_is_not_broken(db, monkeypatch):
    from backbeat_celery.inspection import doctor

    node = signal(workflows.done.s(), subject="camera")
    Node.objects.filter(pk=node.pk).update(status="paused", publish_at=None)
    Transition.objects.create(
        node=node, from_status="queued", to_status="paused", at=node.created_at, attempt=0
    )
    assert findings("stuck-paused")
    monkeypatch.setattr(
        doctor.time, "sleep", lambda s: Node.objects.filter(pk=node.pk).update(status="queued")
    )
    report = examine(wait=1)
    assert [found for found in report.findings if found.check == "stuck-paused"] == []


def test_small_slices_find_the_same(sim, run_tree, monkeypatch):
    from backbeat_celery.inspection.doctor import check

    run_tree(*[PARALLEL] * 9, {"flag": "a", "delay": 9})
    Node.objects.filter(name="a").update(stage=4)
    monkeypatch.setattr(check.slices, "__defaults__", (2,))
    assert len(findings("stage-mismatch")) == 1
