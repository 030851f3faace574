"""Each of the packages sees a node's call as its users expect, whoever sends the message."""

from __future__ import annotations

from typing import Any

import pytest
import sentry_sdk
import structlog
from django_celery_results.models import TaskResult
from opentelemetry import trace

from backbeat_celery import signal
from backbeat_celery.exceptions import UnsupportedOption
from backbeat_celery.models import Node
from tests.neighbours.base import notes
from tests.neighbours.observed import tasks
from tests.waiting import until

CARD = "4111-SECRET"


def behind_one_another(*signatures: Any, subject: str, around: Any) -> list[Node]:
    """Signals of one workflow, each from surroundings of its own: the first one's worker sends
    the next one's message."""
    nodes = []
    for number, signature in enumerate(signatures):
        with around(number):
            nodes.append(signal(signature, subject=subject))
    return nodes


def test_sentry_has_each_failure_once_with_its_node_and_trace(ended, worker):
    """Not the trace of the request that the process sent its first message for."""
    nodes, traces = [], []
    for number in range(3):
        request = sentry_sdk.continue_trace({}, name=f"request {number}")
        with sentry_sdk.isolation_scope(), sentry_sdk.start_transaction(request):
            traces.append(request.trace_id)
            nodes.append(signal(tasks.charge.s(CARD, number), subject=f"sentry {number}"))
    for node in nodes:
        ended(node, "failed")
    for number, node in enumerate(nodes):
        (event,) = until(lambda node=node: events_of(node), 60, worker)
        assert event["contexts"]["trace"]["trace_id"] == traces[number]
        assert event["contexts"]["backbeat"]["attempt"] == 1
        job = event["extra"]["celery-job"]
        assert (job["task_name"], job["args"]) == (tasks.charge.name, ["***", number])
        assert CARD not in str({k: v for k, v in event.items() if k != "exception"})
    assert len(set(traces)) == 3
    logged = [line for line in worker().splitlines() if str(nodes[0].pk) in line]
    assert len([line for line in logged if "has failed after attempt" in line]) == 1


def events_of(node: Node) -> list[dict[str, Any]]:
    """What Sentry was sent about a node, in whatever way it names it."""
    return [event for event in notes("sentry") if str(node.pk) in str(event)]


def test_opentelemetry_continues_the_trace_also_after_a_retry(ended):
    tracer = trace.get_tracer("web")
    spans = []

    def request(number: int) -> Any:
        spans.append(tracer.start_span(f"request {number}"))
        return trace.use_span(spans[-1], end_on_exit=True)

    calls = [tasks.seen.s(failures=1), tasks.seen.s()]
    nodes = behind_one_another(*calls, subject="otel", around=request)
    ended(nodes[1])
    for number, node in enumerate(nodes):
        ids = [attempt.task_id for attempt in node.attempts]
        assert len(ids) == 2 - number
        ours = f"{spans[number].get_span_context().trace_id:032x}"
        for task_id in ids:
            found = until(lambda id=task_id: notes("spans", id=id, name=f"run/{tasks.seen.name}"))
            assert [span["trace"] for span in found] == [ours]


def test_structlog_has_the_request_and_user_of_the_signaller(ended):
    def request(number: int) -> Any:
        return structlog.contextvars.bound_contextvars(request_id=f"r{number}", user_id=number)

    calls = [tasks.seen.s(failures=1), tasks.seen.s(), tasks.seen.s(failures=1)]
    nodes = behind_one_another(*calls, subject="structlog", around=request)
    ended(nodes[-1])
    for number, node in enumerate(nodes):
        node.refresh_from_db()
        bound = (node.result["request_id"], node.result["user_id"])
        assert bound == (f"r{number}", number)
        assert node.result["task_id"] == node.attempts[-1].task_id


def test_flower_shows_a_nodes_task_with_its_arguments(ended, flower):
    node = ended(signal(tasks.charge.s(CARD, 7), subject="flower"), "failed")
    path = f"task/info/{node.attempts[0].task_id}"
    shown = until(lambda: (task := flower(path)) and task.get("state") == "FAILURE" and task)
    assert (shown["name"], shown["args"]) == (tasks.charge.name, "('***', 7)")
    assert CARD not in str(shown)


def test_batches_are_refused_as_nodes_and_work_beside_them():
    with pytest.raises(UnsupportedOption, match="celery-batches"):
        signal(tasks.counted.s(1), subject="batches")
    for number in range(3):
        tasks.counted.delay(number)
    until(lambda: sorted(v for n in notes("batches") for v in n["values"]) == [0, 1, 2])


def test_singletons_are_refused_as_nodes_and_work_beside_them():
    with pytest.raises(UnsupportedOption, match="celery-singleton"):
        signal(tasks.alone.s(1), subject="singletons")
    for number in (1, 2):  # a lock that a refusal left behind would drop the call
        tasks.alone.delay(number)
    until(lambda: sorted(n["number"] for n in notes("singletons")) == [1, 2])


def test_results_of_plain_tasks_are_stored_and_nodes_run_beside_them(ended):
    node = signal(tasks.add.s(2, 3), subject="results")
    sent = tasks.add.delay(20, 3)
    assert sent.get(timeout=90) == 23
    assert ended(node).result == 5
    stored = TaskResult.objects.get(task_id=sent.id)
    assert (stored.status, stored.task_name) == ("SUCCESS", tasks.add.name)
    assert not TaskResult.objects.filter(task_id=node.attempts[0].task_id).exists()


@pytest.mark.parametrize("task", [tasks.typed, tasks.typed_node], ids=["plain", "node"])
def test_pydantic_tasks_get_models(ended, task):
    node = ended(signal(task.s({"item": "lens", "count": 2}), subject=f"typed {task.name}"))
    assert node.result == {"item": "LENS", "count": 3}
    bad = signal(task.s({"count": 2}), subject=f"badly typed {task.name}")
    assert "validation error for Order" in until(lambda: failed(bad))


def failed(node: Node) -> str:
    node.refresh_from_db()
    return node.error or ""
