"""Tasks as these projects write them."""

from __future__ import annotations

from typing import Any

import structlog
from celery import shared_task
from celery_batches import Batches
from celery_singleton import Singleton
from pydantic import BaseModel

from backbeat_celery import current_node, node_task
from tests.neighbours.base import note


@node_task(max_retries=0)
def charge(card: str, amount: int) -> None:
    raise RuntimeError("the bank is closed")


@node_task(bind=True, max_retries=3, default_retry_delay=0.1, retry_jitter=False)
def seen(self: Any, failures: int = 0) -> dict[str, Any]:
    """Give what the logs of this handler have bound; fail at first."""
    if current_node().attempt <= failures:
        raise RuntimeError("not yet")
    return dict(structlog.contextvars.get_contextvars())


@shared_task(base=Batches, flush_every=3, flush_interval=1)
def counted(requests: list[Any]) -> None:
    note("batches", values=[request.args[0] for request in requests])


@shared_task(base=Singleton)
def alone(number: int) -> int:
    note("singletons", number=number)
    return number


@shared_task
def add(x: int, y: int) -> int:
    return x + y


class Order(BaseModel):
    """What a typed task takes and gives."""

    item: str
    count: int = 1


@shared_task(pydantic=True)
def typed(order: Order) -> Order:
    assert isinstance(order, Order)
    return Order(item=order.item.upper(), count=order.count + 1)


@node_task(pydantic=True)
def typed_node(order: Order) -> Order:
    assert isinstance(order, Order)
    return Order(item=order.item.upper(), count=order.count + 1)
