"""Why a node is not running: one sentence for each status and each cause."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import current_app
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backbeat_celery import current_node, node_task, signal
from backbeat_celery.models import Link, Node, SweeperLease, Workflow
from backbeat_celery.states import Status
from tests import workflows
from tests.stages import staged

PARALLEL = {"mode": "non_blocking"}
FAIL = {"fail_until": 99}


def said(node, *parts):
    """Assert that the explanation is one sentence with all these parts; give it."""
    sentence = node.explain()
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence, sentence
    return sentence


@pytest.fixture
def exhausted(sim):
    """A signal whose retries are exhausted."""
    node = signal(workflows.fatal.s(), subject="camera", name="w")
    sim.run()
    node.refresh_from_db()
    assert node.status == "failed"
    return node


@pytest.mark.parametrize(
    ("status", "parts"),
    [
        (Status.PENDING, ("until the handler of its parent", "which is due at")),
        (Status.READY, ("behind its sibling", "which is due at")),
        (Status.QUEUED, ("is due at", "(in 5 h)")),
        (Status.RUNNING, ("is running on racer since", "attempt 1")),
        (Status.RETRYING, ("failed its attempt 1", "failure 1", "runs again at")),
        (Status.WAITING, ("waits for its child", "which is due at")),
        (Status.PAUSED, ("its workflow is paused since", "resume()")),
        (Status.FAILED, ("failed at attempt 1", "no use to try again", "retry()", "resolve()")),
        (Status.COMPLETE, ("succeeded in attempt 1",)),
        (Status.CANCELED, ("was canceled at",)),
    ],
)
def test_every_status_has_its_sentence(sim, status, parts):
    said(staged(sim, status), *parts)


def test_what_is_behind_a_failed_sibling_names_it_and_its_error(sim, exhausted):
    behind = signal(workflows.done.s(), subject="camera", name="w")
    said(behind, str(exhausted.pk), "which failed at attempt 1", "no use to try again")


def test_a_failure_far_below_is_named(run_tree, sim):
    top = run_tree({"shape": {"spawn": [{"flag": "ok"}, {"shape": FAIL}]}}, {"flag": "after"})
    sim.advance(days=1)
    broken = Node.objects.get(status="failed")
    flag = Node.objects.get(name="after")
    said(flag, "behind its sibling", "which waits for its child", str(broken.pk), "not yet")
    said(top, "2 children", str(broken.pk))


def test_a_failed_child_is_named_before_those_that_go_on(run_tree, sim):
    top = run_tree({**PARALLEL, "delay": 9**6}, {**PARALLEL, "shape": FAIL})
    sim.advance(days=1)
    said(top, "2 children, among them", str(Node.objects.get(status="failed").pk))


def test_a_barrier_names_what_it_waits_for(run_tree):
    run_tree({**PARALLEL, "delay": 60}, {**PARALLEL, "delay": 90}, {"flag": "b", "barrier": True})
    said(Node.objects.get(name="b"), "is a barrier and waits for 2 earlier siblings, among them")


def test_a_link_names_the_signal_and_its_workflow(sim):
    waiting = signal(workflows.tree.s({"spawn": [{"flag": "a"}]}), subject="camera")
    far = signal(workflows.done.s(), subject="lens", name="optics", link=waiting, delay=60)
    sim.run()
    said(waiting, "by a link for", f"{far.pk} of the workflow optics for lens", "is due at")
    child = waiting.add_child(workflows.done.s(), delay=60)
    said(waiting, "by a link for", str(far.pk), "and for its child", str(child.pk))
    signal(workflows.done.s(), subject="film", link=waiting, delay=60)
    said(waiting, "2 linked signals, among them")


def test_a_pause_is_told_with_who_and_why(sim):
    node = signal(workflows.done.s(), subject="camera", delay=60)
    node.workflow.pause(by="ann", reason="stocktaking")
    said(node, "is due at", "unless its workflow is still paused since")
    sim.advance(seconds=90)
    said(node, "by ann (stocktaking)", "resume() lets it run")
    said(node.workflow, "by ann (stocktaking) until resume(), is open and waits for its signal")


def test_what_was_resumed_behind_our_back_waits_for_the_sweeper(sim):
    node = staged(sim, Status.PAUSED)
    Workflow.objects.update(paused_at=None)
    said(node, "its workflow was resumed", "queued by the sweeper at its next pass")


def test_a_message_that_was_not_published_yet_waits_for_the_sweeper(sim):
    node = signal(workflows.done.s(), subject="camera")
    sim.run()
    Node.objects.filter(pk=node.pk).update(
        status="queued", finished_at=None, outcome="", publish_at=sim.now - timedelta(minutes=10)
    )
    said(node, "no message for it is known to be in the queue", "by the sweeper at its next pass")


def test_a_published_message_waits_for_a_free_worker(sim):
    node = signal(workflows.done.s().set(queue="slow"), subject="camera")
    said(node, "its message is published", "listens to the queue 'slow' is free")
    sim.lose_messages()
    sim.advance(seconds=20)
    sim.lose_messages()
    Node.objects.filter(pk=node.pk).update(publish_count=2)
    said(node, "it was published 3 times and no worker has taken it", "'slow'")


@node_task(name="tests.explain.printing")
def printing():
    """A handler whose author has named its queue."""


printing.queue = "paper"  # as an option Celery 5.7 warns of it


@pytest.mark.parametrize("is_known", [True, False])
def test_the_queue_is_that_of_the_task(sim, is_known, monkeypatch):
    node = signal(printing.s(), subject="camera")
    if not is_known:
        monkeypatch.delitem(current_app.tasks, printing.name)
    said(node, "listens to the queue 'paper' is free")


def test_an_unknown_task_is_told_with_its_grace(sim):
    node = signal(workflows.done.s(), subject="camera")
    Node.objects.update(times_out_at=sim.now.replace(year=sim.now.year + 1))
    said(node, "has no task named 'tests.workflows.done'", "or the node fails at")


def test_a_due_flag_waits_for_the_sweeper(sim, run_tree):
    run_tree({"flag": "payday", "delay": 60})
    Node.objects.filter(name="payday").update(fires_at=sim.now)
    said(Node.objects.get(name="payday"), "is due as a flag", "at its next pass")


def test_progress_of_a_running_node_is_told(sim):
    node = staged(sim, Status.RUNNING)
    Node.objects.filter(pk=node.pk).update(
        progress={"done": 3, "total": 10, "message": "scanning"}
    )
    said(node, "3 of 10 done (scanning)")


def test_a_lost_worker_is_told(sim):
    node = staged(sim, Status.RUNNING)
    Node.objects.filter(pk=node.pk).update(lease_expires_at=sim.now)
    said(node, "was running on racer, whose lease ran out", "declared lost by the sweeper")


@pytest.mark.parametrize("limit", [True, False])
def test_a_node_that_awaits_its_completion_says_until_when(sim, limit):
    node = staged(sim, Status.RUNNING)
    until = sim.now.replace(year=sim.now.year + 1) if limit else None
    Node.objects.filter(pk=node.pk).update(
        awaits_completion=True, lease_expires_at=None, times_out_at=until
    )
    said(node, "awaits complete() or fail() from outside", "until" if limit else "without a time")


def test_a_remote_node_says_who_has_it(sim):
    node = staged(sim, Status.RUNNING)
    Node.objects.filter(pk=node.pk).update(remote=True, lease_expires_at=None)
    said(node, "with the workers of another code base")


def test_a_rescue_of_a_failed_node_is_told(sim, exhausted):
    child = exhausted.add_child(workflows.done.s())
    Node.objects.filter(pk=child.pk).update(rescue=True)
    said(exhausted, f"its rescue {child.name} {child.pk} is pending")


def test_who_resolved_or_shut_down_or_canceled_is_told(sim, exhausted):
    exhausted.resolve(by="ann", reason="paid by cash")
    said(exhausted, "was resolved at", "by ann (paid by cash)", "no use to try again")
    other = signal(workflows.fatal.s(), subject="lens")
    sim.run()
    other.shutdown(by="bob")
    said(other, "was shut down at", "by bob")
    third = staged(sim, Status.QUEUED)
    third.cancel(by="cyd", reason="sold out")
    said(third, "was canceled at", "by cyd (sold out)")


def test_what_is_below_a_canceled_node_says_so(sim):
    child = staged(sim, Status.PENDING)
    Node.objects.filter(pk=child.parent_id).update(status="canceled")
    said(child, "is below", "which was canceled", "by the sweeper")


@pytest.mark.parametrize("kind", ["waiting", "ready"])
def test_what_waits_in_vain_names_the_sweeper(run_tree, kind):
    node = run_tree({"flag": "a", "delay": 60}, {"flag": "b"})
    Node.objects.filter(name="a").update(awaited_by=None)
    if kind == "waiting":
        Node.objects.filter(name="b").update(awaited_by=None)
        said(node, "waits for nothing any more and is completed by the sweeper")
    else:
        said(Node.objects.get(name="b"), "waits for nothing any more and is queued")


def test_a_workflow_says_whether_it_is_open(sim):
    node = signal(workflows.done.s(), subject="camera", delay=60)
    said(node.workflow, "is open and waits for its signal", str(node.pk))
    node.workflow.close(by="ann", reason="year's end")
    said(node.workflow, "was closed at", "by ann (year's end) and waits for its signal")
    node.cancel()
    sim.run()
    assert "is complete" in Workflow.objects.get().explain()
    said(Workflow.objects.for_subject("lens", "w"), "waits for signals, or for close()")


def circle(sim):
    """Two nodes that wait for each other, as two transactions at once can make them."""
    one, two = [
        signal(workflows.tree.s({"spawn": [{"flag": "a"}]}), subject=subject)
        for subject in ("camera", "lens")
    ]
    Link.objects.create(source=one, target=two)
    Link.objects.create(source=two, target=one)
    Node.objects.filter(pk__in=[one.pk, two.pk]).update(next_seq=1, next_stage=0)
    sim.run()
    return one, two


def test_a_circle_of_links_is_found_and_named(sim):
    one, two = circle(sim)
    assert Node.objects.get(pk=one.pk).status == "waiting"
    said(one, f"{one.pk} waits for", str(two.pk), "cancel() one of them")
    behind = signal(workflows.done.s(), subject="camera", name=workflows.tree.name)
    said(behind, "waits forever, because", str(one.pk), str(two.pk))
    said(one.workflow, "waits forever, because")


def test_a_link_without_a_circle_is_no_circle(sim):
    waiting = signal(workflows.tree.s({"spawn": [{"flag": "a", "delay": 9}]}), subject="camera")
    signal(workflows.done.s(), subject="lens", link=waiting, delay=60)
    sim.run()
    assert "waits forever" not in waiting.explain()


def test_a_secret_error_text_is_cut(sim, script):
    script(lambda task: (_ for _ in ()).throw(ValueError("x" * 5000)))
    node = signal(workflows.scripted_with_limits.s(), subject="camera")
    sim.run()
    assert len(said(node, "…")) < 800


@pytest.mark.parametrize("status", list(Status))
def test_no_sentence_costs_more_for_more_siblings(sim, status, script):
    def spawn(task):
        current_node().spawn_many([workflows.done.s()] * 300, delay=60, **PARALLEL)

    node = staged(sim, status)
    with CaptureQueriesContext(connection) as few:
        node.explain()
    script(spawn)
    if not node.workflow.closed_at:
        signal(workflows.scripted.s(), subject="camera", name=node.workflow.name, **PARALLEL)
        sim.run()
    with CaptureQueriesContext(connection) as many:
        node.explain()
    assert len(many) <= len(few)
    assert len(many) <= 10


def test_a_broker_that_can_tell_is_asked_only_when_a_node_is_overdue(monkeypatch, db):
    from backbeat_celery.engine.delivery import broker_probe
    from backbeat_celery.engine.delivery.broker_probe import QueueState

    asked = []
    answers = {
        "empty": QueueState("empty", consumers=0),
        "gone": QueueState("gone", exists=False),
        "busy": QueueState("busy", consumers=2, messages=9),
    }
    monkeypatch.setattr(
        broker_probe.BrokerProbe,
        "queue",
        lambda self, queue: asked.append(queue) or answers.get(queue),
    )
    sentences = {}
    for queue in [*answers, "silent"]:
        node = signal(workflows.done.s().set(queue=queue), subject=queue)
        Node.objects.filter(pk=node.pk).update(
            publish_at=node.created_at.replace(year=node.created_at.year + 1)
        )
        node.explain()
        assert queue not in asked
        Node.objects.filter(pk=node.pk).update(publish_count=1)
        sentences[queue] = node.explain()
        assert queue in asked
    assert "no worker listens to the queue 'empty': start one with -Q empty" in sentences["empty"]
    assert "no worker listens to the queue 'gone'" in sentences["gone"]
    assert "2 consumers of the queue 'busy' have 9 messages" in sentences["busy"]
    assert "no worker has taken it: see that one listens" in sentences["silent"]


def test_without_a_sweeper_the_sentence_says_so(db):
    node = signal(workflows.done.s(), subject="camera")
    Node.objects.filter(pk=node.pk).update(publish_at=node.created_at)
    assert "none has been seen yet: start a worker" in node.explain()


def test_without_a_sweeper_the_next_pass_is_in_doubt(db):
    """In the simulation the test itself sweeps."""
    node = signal(workflows.done.s(), subject="camera")
    Node.objects.filter(pk=node.pk).update(publish_at=None)
    node.refresh_from_db()
    said(node, "published by the sweeper at its next pass", "none has been seen yet")

    SweeperLease.objects.get_or_create()
    SweeperLease.objects.update(swept_at=node.created_at - timedelta(hours=3))
    said(node, "none has been seen for 3 h", "start a worker")

    SweeperLease.objects.update(swept_at=node.created_at + timedelta(seconds=1))
    assert "none has been seen" not in node.explain()
