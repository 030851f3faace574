"""Each node's handler runs in its signaller's schema, whoever sends its message."""

from __future__ import annotations

from typing import Any

import pytest
from django_tenants.utils import schema_context

from backbeat_celery import signal, signal_many
from backbeat_celery.engine.delivery.outbox import BrokerOutbox
from backbeat_celery.models import Node
from tests.neighbours.tenanted.conftest import TENANTS
from tests.neighbours.tenanted.shop import tasks
from tests.neighbours.tenanted.shop.models import Note


@pytest.fixture
def check(ended: Any) -> Any:
    """Check that the nodes of each tenant ran in its schema, and wrote there and nowhere else."""

    def check(nodes: dict[str, list[Node]]) -> None:
        for tenant, mine in nodes.items():
            for node in mine:
                assert (ended(node).result, node.args) == (tenant, node.args)
                assert found(node.args[0]) == [tenant], node

    return check


def found(text: str) -> list[str]:
    """The schemas that have such a note, as often as they have it."""
    schemas = []
    for tenant in TENANTS:
        with schema_context(tenant):
            schemas += [tenant] * Note.objects.filter(text=text).count()
    return schemas


def for_each(task: Any, subject: str, *arguments: Any) -> dict[str, list[Node]]:
    """Signals of the tenants in turn, all of one workflow: each one's message is sent by the
    process that ran another tenant's."""
    nodes: dict[str, list[Node]] = {tenant: [] for tenant in TENANTS}
    for turn in range(2):
        for tenant in TENANTS:
            with schema_context(tenant):
                text = f"{subject} {turn} {tenant}"
                nodes[tenant].append(signal(task.s(text, *arguments), subject=subject))
    return nodes


@pytest.mark.parametrize("task", [tasks.write, tasks.write_atomic, tasks.write_plain])
def test_next_in_line_behind_another_tenant(check, task):
    check(for_each(task, f"line {task.name}"))


def test_a_retry(check):
    check(for_each(tasks.write, "retry", 1))


def test_messages_that_are_copies_of_another_tenants(check):
    nodes: dict[str, list[Node]] = {tenant: [] for tenant in TENANTS}
    for number in range(4):
        for tenant in TENANTS:
            with schema_context(tenant):
                text = f"copies {number} {tenant}"
                nodes[tenant].append(signal(tasks.write.s(text), subject=text))
    check(nodes)


def test_lost_messages_that_the_sweeper_sends_again(check, monkeypatch):
    """Those of several tenants at once, some of them in bundles."""
    with monkeypatch.context() as patch:
        patch.setattr(BrokerOutbox, "send", lambda *args: None)
        nodes = for_each(tasks.write, "lost")
        for number in range(4):
            for tenant in TENANTS:
                with schema_context(tenant):
                    text = f"lost {number} {tenant}, short"
                    nodes[tenant].append(signal(tasks.write_short.s(text), subject=text))
    check(nodes)
    assert nodes["acme"][0].publish_count >= 1


def test_bundles(check):
    nodes: dict[str, list[Node]] = {}
    for tenant in TENANTS:
        with schema_context(tenant):
            texts = [f"short {number} {tenant}" for number in range(5)]
            calls = [(tasks.write_short.s(text), {"subject": text}) for text in texts]
            nodes[tenant] = signal_many(calls)
    check(nodes)


def test_children_and_signals_of_a_handler(ended, check):
    orders = {}
    for tenant in TENANTS:
        with schema_context(tenant):
            orders[tenant] = signal(tasks.order.s(f"order of {tenant}"), subject="orders")
    for tenant, node in orders.items():
        assert ended(node).result == tenant
        check({tenant: list(node.children.all())})
        check(
            {
                tenant: list(
                    Node.objects.filter(
                        workflow__subject=f"of order of {tenant}", task=tasks.write.name
                    )
                )
            }
        )
