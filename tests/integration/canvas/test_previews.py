"""What a verb would start, complete and cancel in a canvas is told before it, and happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from celery import chain, chord, group

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.testing import Simulation
from backbeat_celery.verbs import impact
from tests.integration.canvas.tasks import add, boom, double, identity, total
from tests.verbs import ONE_NODE

CANVASES: dict[str, Callable[[], Any]] = {
    "chain": lambda: chain(boom.s(), double.s(), double.s()),
    "immutable follower": lambda: chain(boom.s(), double.s(), add.si(1, 1), double.s()),
    "immutable first": lambda: chain(boom.s(), add.si(1, 1), double.s()),
    "group follower": lambda: chain(boom.s(), group(add.s(1), add.si(1, 1)), total.s()),
    "member": lambda: chord([add.s(1, 1), boom.s()], total.s()),
    "member, long body": lambda: chord([boom.s(), add.s(1, 1)], chain(total.s(), double.s())),
    "member, group body": lambda: chain(
        chord([boom.s()], group(total.s(), total.s(1))), identity.s()
    ),
    "member, immutable body": lambda: chord([boom.s(), add.s(1, 1)], add.si(1, 1)),
    "inner chord": lambda: chord([chord([boom.s()], total.s()), add.s(1, 1)], total.s()),
    "inner chain": lambda: chord([chain(boom.s(), add.si(2, 2)), add.s(1, 1)], total.s()),
    "group": lambda: group(boom.s(), add.s(1, 1), chain(add.s(1, 1), double.s())),
    "two failed": lambda: chord([boom.s(), boom.s()], total.s()),
}


def statuses() -> dict[UUID, str]:
    return dict(Node.objects.values_list("pk", "status"))


@pytest.mark.parametrize("verb", ONE_NODE)
@pytest.mark.parametrize("name", CANVASES)
def test_the_preview_is_what_happens(name: str, verb: str, sim: Simulation) -> None:
    top = signal(CANVASES[name](), subject="order")
    signal(add.s(1, 1), name=top.workflow.name, subject="order")
    sim.run()
    node = Node.objects.filter(status="failed").order_by("seq")[0]
    told = impact.canceled_nodes(verb, node)
    ahead = impact.continued_nodes(verb, node)
    before = statuses()
    getattr(node, verb)()
    sim._commit()  # and call no handler
    after = {pk: status for pk, status in statuses().items() if before[pk] != status}
    tree = node.workflow.render()
    canceled = {pk for pk, status in after.items() if status == "canceled"} - {node.pk}
    assert {row.pk for row in told.nodes} == canceled, tree
    if verb == "retry":
        return
    assert {row.pk for row in ahead.started.nodes} == {
        pk for pk, status in after.items() if status == "queued"
    }, tree
    complete = {pk for pk, status in after.items() if status == "complete"} - {node.pk}
    assert {row.pk for row in ahead.completed.nodes} == complete, tree
