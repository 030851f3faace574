"""What a project may write that has `celery-types` as well: tasks of Celery's own decorator."""

from __future__ import annotations

from typing import Any, assert_type

from celery import Signature, Task, shared_task
from celery.result import AsyncResult

from backbeat_celery import current_node, node_task, signal


@shared_task
def plain(number: int) -> str:
    return str(number)


@shared_task
def nothing() -> None: ...


@node_task(rescue=nothing)
def pay(number: int) -> str:
    current_node().spawn(plain.si(number))
    current_node().spawn_many([plain.s(1), nothing, pay.s(1)])
    return str(number)


signal(plain.s(1), subject="order:1")
signal(nothing, subject="order:1")

assert_type(pay.s(1), Signature[str])
assert_type(pay.si(1), Signature[str])
assert_type(pay.signature((1,)), Signature[str])
assert_type(pay.delay(1), AsyncResult[str])
assert_type(pay.apply_async((1,)), AsyncResult[str])


def takes(task: Task[[int], str], signature: Signature[str], any_task: Task[..., Any]) -> None: ...


takes(plain, plain.s(1), pay)
takes(pay, pay.s(1), plain)
