"""Chords whose members end, fail, expire or are canceled at the same time."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from celery import chain, chord

from backbeat_celery import signal
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.claim import Claim
from backbeat_celery.engine.claim_input import give_input
from backbeat_celery.engine.order.expiry import expire
from backbeat_celery.engine.outcomes import Failed, Succeeded
from backbeat_celery.engine.record import record
from backbeat_celery.models import Node
from backbeat_celery.models.transitions import StaleNode
from tests.integration.canvas.tasks import add, by_id, double, identity, total
from tests.races.threads import DEADLINE, RACES, repeated, start, together
from tests.races.worker import status, take, taken, times

pytestmark = RACES


def sent(canvas: Any) -> dict[str, list[Node]]:
    """The nodes of a canvas by the task that they call."""
    top = signal(canvas, subject="camera")
    found: dict[str, list[Node]] = {}
    for node in Node.objects.filter(workflow_id=top.workflow_id).order_by("parent_id", "seq"):
        found.setdefault(node.task or node.container, []).append(node)
    return found


def end(mine: Claim, result: Any = None, advances: int = 1) -> None:
    """Record a result, or an exception as a failure for good."""
    is_error = isinstance(result, Exception)
    ending = Failed.from_exception(result, final=True) if is_error else Succeeded(result)
    after_commit = record(mine, ending)
    for _ in range(advances):
        advance(after_commit, "default")


def arguments(node: Node) -> list[Any]:
    """What the node's handler gets."""
    mine = taken(node)
    assert give_input(mine)
    return list(mine.node.args)


@repeated(10)
def test_members_that_end_at_once_start_the_body_once_with_all_results(stops, repetition):
    nodes = sent(chord([add.s(n, n) for n in range(8)], total.s()))
    claims = [taken(node) for node in nodes[add.name]]
    together(*[lambda n=n, mine=mine: end(mine, n, 2) for n, mine in enumerate(claims)])
    (body,) = nodes[total.name]
    assert (status(body), times(body, "queued")) == ("queued", 1)
    assert arguments(body) == [list(range(8))]


@repeated(5)
def test_members_that_fail_at_once_call_the_error_callback_once(stops, repetition):
    body = total.s()
    body.link_error(by_id.s())
    nodes = sent(chord([add.s(n, n) for n in range(4)], body))
    claims = [taken(node) for node in nodes[add.name]]
    together(*[lambda mine=mine: end(mine, ValueError("no")) for mine in claims])
    called = Node.objects.filter(task=by_id.name)
    assert [node.parent_id for node in called] == [nodes[total.name][0].pk]


def test_two_whose_failures_see_each_other_late_call_it_once(stops):
    body = total.s()
    body.link_error(by_id.s())
    nodes = sent(chord([add.s(1, 1), add.s(2, 2)], body))
    first, second = (taken(node) for node in nodes[add.name])
    stop = stops.stop("first", "rescue_called")
    future = start(lambda: end(first, ValueError("no")), "first")
    stop.wait()
    late = start(lambda: end(second, ValueError("no")), "second")
    stop.release()
    future.result(DEADLINE)
    late.result(DEADLINE)
    assert Node.objects.filter(task=by_id.name).count() == 1


@repeated(5)
def test_a_body_never_runs_with_a_hole(stops, repetition):
    """The last member ends while another one is canceled."""
    nodes = sent(chain(chord([add.s(1, 1), add.s(2, 2)], total.s()), double.s()))
    one, two = nodes[add.name]
    mine = taken(one)
    together(lambda: end(mine, 2), two.cancel)
    assert status(nodes[total.name][0]) == "canceled"
    assert status(nodes[double.name][0]) == "canceled"
    assert status(nodes["chord"][0]) == "complete"


def test_a_member_that_is_canceled_as_it_ends_gives_no_value(stops):
    nodes = sent(chord([add.s(1, 1)], total.s()))
    (member,), (body,) = nodes[add.name], nodes[total.name]
    mine = taken(member)
    stop = stops.stop("verb", "verb_begun")
    verb = start(member.cancel, "verb")
    stop.wait()
    late = start(lambda: end(mine, 2), "worker")
    stop.release()
    verb.result(DEADLINE)
    with pytest.raises(Exception, match="canceled"):
        late.result(DEADLINE)
    assert status(body) == "canceled"


@repeated(5)
def test_an_attempt_begins_or_the_node_expires_and_never_both(stops, repetition):
    nodes = sent(chain(identity.s(1).set(expires=0.001), double.s()))
    (node,), (behind,) = nodes[identity.name], nodes[double.name]
    node.refresh_from_db()
    claims: list[Claim | None] = []

    def worker() -> None:
        claims.append(take(node))

    def sweeper() -> None:
        with suppress(StaleNode):
            advance(expire(node), "default")

    together(worker, sweeper)
    is_claimed = claims[0] is not None
    assert status(node) == ("running" if is_claimed else "canceled")
    assert status(behind) == ("ready" if is_claimed else "canceled")
