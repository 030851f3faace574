"""The main job on real workers: order, fan-out and join."""

from __future__ import annotations

from backbeat_celery import signal, signal_many
from backbeat_celery.models import Node
from tests.real import handlers
from tests.waiting import until


def test_a_declined_purchase_is_retried_and_both_are_notified(worker, log, finished):
    node = finished(signal(handlers.purchase.s(703), subject="camera"))
    assert [a.outcome for a in node.attempts] == ["failed", "succeeded"]
    assert node.retries == 1
    labels = log.labels()
    assert labels[:3] == ["purchase", "purchase", "successful purchase"]
    assert sorted(labels[3:]) == ["notify customer 703", "notify fulfillment 703"]
    tree = Node.objects.filter(workflow=node.workflow, parent__isnull=False)
    assert set(tree.values_list("status", flat=True)) == {"complete"}


def test_hundred_signals_run_one_tree_at_a_time_while_another_overtakes(worker, log, finished):
    options = {"subject": "camera", "name": "w"}
    first = signal_many([(handlers.step.s(f"s{n}"), options) for n in range(100)])
    other = signal(handlers.step.s("overtaker"), subject="lens")
    finished(other)
    assert Node.objects.filter(pk=first[-1].pk, status="ready").exists()
    finished(first[-1], 120)
    events = [line for line in log.lines() if line["label"] != "overtaker"]
    expected = [(event, f"s{n}") for n in range(100) for event in ("start", "end")]
    assert [(line["event"], line["label"]) for line in events] == expected


def test_thousand_children_then_one_that_starts_once_after_all(worker, log, finished):
    node = finished(signal(handlers.fan_out.s(1000), subject="camera"), 360)
    labels = log.labels()
    assert labels.count("after") == 1
    last_end = max(line["at"] for line in log.lines(event="end") if line["label"] != "after")
    (after,) = log.lines(event="start", label="after")
    assert after["at"] >= last_end
    assert Node.objects.filter(parent=node, status="complete").count() == 1001


def test_plain_task_of_another_package_runs_as_a_node(worker, log, finished):
    node = finished(signal(handlers.foreign.s(21), subject="camera"))
    assert node.result == 42


def test_chain_of_blocking_children(worker, log, finished):
    finished(signal(handlers.chain.s(20), subject="camera"))
    assert log.labels() == [f"link {n}" for n in range(20)]


def test_signal_returns_while_the_broker_is_away_and_the_node_runs_later(
    worker, log, finished, monkeypatch
):
    from celery import current_app

    monkeypatch.setattr(current_app.conf, "broker_url", "amqp://127.0.0.1:1//")
    node = signal(handlers.step.s("late"), subject="camera")
    monkeypatch.undo()
    finished(node)
    assert log.labels() == ["late"]


def test_retry_waits_in_the_broker_or_the_database_and_comes(worker, log, finished):
    node = signal(handlers.step.s("soon"), subject="camera", delay=2)
    assert node.status == "queued"
    finished(node)
    (line,) = log.lines(event="start")
    assert line["at"] >= node.created_at.timestamp() + 1.9
    until(lambda: node.fires_at <= node.started_at)
