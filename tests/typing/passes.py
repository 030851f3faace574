"""What a project may write: no type checker finds a fault in it. Nothing here is run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from celery import Task
from celery.exceptions import Retry
from django.contrib.auth.models import AnonymousUser, User

from backbeat_celery import (
    Mode,
    NodeTask,
    complete_by_token,
    current_node,
    fail_by_token,
    node_task,
    signal,
    signal_many,
)
from backbeat_celery.api import SignalOptions
from backbeat_celery.models import Attempt, Node, Transition, Workflow
from backbeat_celery.testing import Simulation
from backbeat_celery.typing import Actor, TaskOrSignature

# The decorator ------------------------------------------------------------------------


@node_task
def pay(number: int, *, fast: bool = False) -> str:
    return f"{number} {fast}"


@node_task()
def ship(number: int) -> str:
    return str(number)


@node_task
def nothing() -> None: ...


@node_task
def tidy(days: int = 30) -> None: ...


@node_task(rescue="shop.tasks.apologize")
def apologize(number: int) -> None: ...


@node_task(
    name="shop.charge",
    timeout=timedelta(hours=1),
    atomic=True,
    mode=Mode.NON_BLOCKING,
    bundle=10,
    rescue=apologize,
    awaits_completion=True,
    max_retries=None,
    default_retry_delay=0.5,
    autoretry_for=(OSError,),
    dont_autoretry_for=[ValueError],
    retry_kwargs={"countdown": 3},
    retry_backoff=timedelta(seconds=3),
    retry_backoff_max=600,
    retry_jitter=False,
    throws=KeyError,
    time_limit=timedelta(minutes=5),
    soft_time_limit=240,
    rate_limit="10/m",
    priority=3,
    queue="payments",
    serializer="json",
    acks_late=True,
    ignore_result=True,
)
def charge(number: int) -> str:
    return str(number)


@node_task(bind=False, mode="fire_and_forget")
def told(number: int) -> str:
    return str(number)


@node_task(bind=True, max_retries=3)
def bound(self: NodeTask, number: int) -> str:
    assert_type(self.name, str)
    raise self.retry(exc=OSError(), countdown=timedelta(minutes=1), max_retries=5)


@node_task(bind=True)
def bound_as_celery_does(self: Task[..., Any], number: int) -> str:
    return str(number)


class Base(NodeTask):
    abstract = True
    timeout = timedelta(hours=1)
    time_limit = timedelta(minutes=5)
    default_retry_delay = 0.5
    rate_limit = "10/m"
    max_retries = 3
    autoretry_for = (OSError,)
    mode = Mode.NON_BLOCKING

    def gateway(self) -> str:
        return self.name


class Later(Base):
    abstract = True
    mode = Mode.BLOCKING
    timeout = timedelta(hours=2)


@node_task(bind=True, base=Base)
def based(self: Base, number: int) -> str:
    return self.gateway()


@node_task(base=Later)
def based_unbound(number: int) -> str:
    return str(number)


class Charge(NodeTask[[int], str]):
    name = "shop.Charge"

    def run(self, number: int) -> str:
        return str(number)


class Loose(NodeTask):
    def run(self, number: int) -> str:
        return str(number)


assert_type(pay(1, fast=True), str)
assert_type(pay.run(1), str)
assert_type(pay.name, str)
pay.s(1)
pay.s(number=1, fast=True)
pay.si(1)
pay.delay(1)
pay.delay_on_commit(1)
pay.apply_async((1,), {"fast": True}, countdown=3)
pay.signature((1,), queue="payments")
assert_type(ship(1), str)
assert_type(charge(1), str)
assert_type(told(1), str)
assert_type(bound(1), str)
assert_type(bound_as_celery_does(1), str)
assert_type(based(1), str)
assert_type(based_unbound(1), str)
assert_type(Charge()(1), str)
assert_type(tidy(), None)
bound.s(1)
based.s(1)
Charge().s(1)
Loose().s(1, "not known to be wrong")


def takes(task: NodeTask, exact: NodeTask[[int], str], celery: Task[..., Any]) -> None: ...


takes(pay, Charge(), ship)


def asks(task: NodeTask[[int], str]) -> str:
    retry: Retry = task.retry(throw=False, eta=datetime(2030, 1, 1, tzinfo=UTC))
    return f"{retry} {task.s(3)}"


# Signals ------------------------------------------------------------------------------

user, anybody = User(), AnonymousUser()

node = signal(pay.s(1), subject=user, name="order", key="1", mode=Mode.BLOCKING)
assert_type(node, Node)
signal(pay.s(1), subject="order:1", mode="non_blocking", delay=timedelta(hours=1), link=node)
signal(pay.s(1), subject="order:1", fires_at=datetime(2030, 1, 1, tzinfo=UTC), link=node.pk)
signal(pay.si(1), subject="order:1", delay=3, metadata={"by": 1}, using="default")
signal(pay.signature((1,)), subject="order:1")
signal(nothing, subject="order:1")
signal(tidy, subject="order:1")
signal(Loose(), subject="order:1")
signal(pay.s(1), max_retries=3, rescue=apologize)
signal(pay.s(1), subject="order:1", close=True, rescue=apologize.s(3))
signal(pay.s(1), subject=None, rescue="shop.tasks.apologize")

assert_type(signal_many([(pay.s(1), {"subject": "order:1", "key": "1"})]), list[Node])
signal_many((ship.s(n), {"subject": f"order:{n}", "mode": Mode.BLOCKING}) for n in range(3))
options: SignalOptions = {"subject": user, "name": "order", "delay": 3, "link": None}
signal_many([(tidy, options), (pay.s(3), options)])
signal_many([(tidy, {}), (pay.s(3), {"close": True, "max_retries": 3, "rescue": apologize})])

# The running node ---------------------------------------------------------------------


@node_task
def parent(numbers: list[int]) -> str:
    node = current_node()
    assert_type(node.id, UUID)
    assert_type(node.parent_id, UUID)
    assert_type(node.attempt, int)
    assert_type(node.idempotency_key, str)
    assert_type(node.metadata, dict[str, Any])
    assert_type(node.is_wanted(), bool)
    child = node.spawn(pay.s(1), mode=Mode.NON_BLOCKING, delay=timedelta(seconds=3), key="1")
    assert_type(child.id, UUID)
    node.spawn(tidy, barrier=True, metadata={"days": 3})
    node.spawn(pay.s(1), max_retries=0, rescue=apologize)
    children = node.spawn_many([pay.s(n) for n in numbers], mode="non_blocking", barrier=False)
    assert_type([child.id for child in children], list[UUID])
    node.spawn_many(every(numbers), fires_at=datetime(2030, 1, 1, tzinfo=UTC))
    node.flag("paid", barrier=True, key="paid", delay=3)
    node.progress(1, len(numbers), "halfway")
    return node.completion_token()


def every(numbers: Iterable[int]) -> Iterable[TaskOrSignature]:
    yield from (pay.s(number) for number in numbers)
    yield nothing


# Workflows and verbs ------------------------------------------------------------------

workflow = Workflow.objects.for_subject(user, "order")
assert_type(workflow, Workflow)
assert_type(Workflow.objects.for_subject("order:1", name="order").root, Node)
assert_type(workflow.signal(pay.s(1), key="1", link=node, delay=3), Node)
workflow.signal(pay.s(1), close=True, max_retries=0, rescue=apologize.s(3))
assert_type(workflow.explain(), str)
assert_type(workflow.tree(limit=10, statuses=["failed"], task="shop.pay").node, Node)
assert_type(workflow.render(color=True, limit=10), str)
workflow.pause(by=user, reason="stock-taking")
workflow.resume(by="the night shift")
workflow.close(by=anybody)
workflow.cancel(by=None)
assert_type(workflow.delete(by=user), tuple[int, dict[str, int]])
assert_type(workflow.nodes.filter(name="pay").first(), Node | None)

assert_type(node.add_child(pay.s(1), mode="blocking", barrier=False, delay=3), Node)
node.add_child(pay.s(1), max_retries=0, rescue=apologize)
assert_type(node.explain(), str)
assert_type(node.is_finished, bool)
assert_type(node.workflow_id, UUID)
assert_type(node.parent_id, UUID | None)
assert_type(node.children.first(), Node | None)
assert_type(node.history, list[Transition])
assert_type(node.attempts, list[Attempt])


def steer(node: Node, by: Actor) -> None:
    node.retry(by=by, reason="the bank is back")
    node.resolve(by=by)
    node.resolve({"receipt": 1}, by=by)
    node.resolve(result=3, reason="by telephone")
    node.shutdown(by=by)
    node.cancel(by=by)
    node.reset(by=by)
    node.cancel_previous(by=by)
    node.complete({"receipt": 1}, attempt=3, by=by)
    node.fail(OSError(), by=by)
    node.fail("declined", reason="by telephone")


complete_by_token("token", {"receipt": 1}, max_age=3600)
fail_by_token("token", "declined", max_age=None)

# Tests --------------------------------------------------------------------------------

with Simulation(seed=3, start=datetime(2030, 1, 1, tzinfo=UTC)) as sim:
    sim.run(max_steps=10)
    sim.advance(timedelta(hours=1))
    sim.advance(hours=2)
    assert_type(sim.step(), bool)
    assert_type(sim.now, datetime)
    assert_type(sim.in_flight, int)
    assert_type(sim.lose_messages(), int)
    assert_type(sim.duplicate_messages(), int)
    sim.kill_next("in_handler")
    assert_type(sim.calls[0].task, str)
    assert_type(sim.calls[0].node_id, UUID)
