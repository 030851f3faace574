"""What a type checker must find: each marked line is an error, and no other.

A mark names mypy's code and pyright's rule. What mypy finds only where `celery-types` is
installed is marked so: without it every task has a base class that mypy does not know, and may
stand wherever a task is wanted. Nothing here is run.
"""

from __future__ import annotations

from celery import Task

from backbeat_celery import (
    NodeTask,
    complete_by_token,
    current_node,
    fail_by_token,
    node_task,
    signal,
    signal_many,
)
from backbeat_celery.api import SignalOptions
from backbeat_celery.models import Node, Workflow
from backbeat_celery.testing import Simulation


@node_task
def pay(number: int, *, fast: bool = False) -> str:
    return f"{number} {fast}"


@node_task(bind=True, max_retries=3)
def bound(self: NodeTask, number: int) -> str:
    self.retry(countdown="soon")  # error: arg-type, reportArgumentType
    return str(number)


class Base(NodeTask):
    timeout = "long"  # error: assignment, reportAssignmentType
    time_limit = "long"  # error: assignment, reportAssignmentType

    def gateway(self) -> str:
        return self.name


@node_task(bind=True, base=Base)
def based(self: Base, number: int) -> str:
    return self.gateway()


@node_task(base=Base, timeout=3)
def based_unbound(number: int) -> str:
    return str(number)


class Charge(NodeTask[[int], str]):
    def run(self, number: int) -> str:
        return str(number)


# Calls --------------------------------------------------------------------------------

pay("x")  # error: arg-type, reportArgumentType
pay()  # error: call-arg, reportCallIssue
pay(1, True)  # error: call-arg, reportCallIssue
pay(1, slow=True)  # error: call-arg, reportCallIssue
pay.run("x")  # error: arg-type, reportArgumentType
pay.s()  # error: call-arg, reportCallIssue
pay.s("x")  # error: arg-type, reportArgumentType
pay.s(1, True)  # error: call-arg, reportCallIssue
pay.si()  # error: call-arg, reportCallIssue
pay.si("x")  # error: arg-type, reportArgumentType
pay.delay("x")  # error: arg-type, reportArgumentType
pay.delay()  # error: call-arg, reportCallIssue
pay.apply_async((1,), countdown="soon")  # error: arg-type, reportArgumentType
pay.signature((1,), priority="high")  # error: arg-type, reportArgumentType
pay.delay_on_commit("x")  # error: arg-type, reportArgumentType
receipt: int = pay(1)  # error: assignment, reportAssignmentType

bound("x")  # error: arg-type, reportArgumentType
bound(bound, 1)  # error: call-arg, reportCallIssue
bound.s()  # error: call-arg, reportCallIssue
based("x")  # error: arg-type, reportArgumentType
based.delay()  # error: call-arg, reportCallIssue
based_unbound.s("x")  # error: arg-type, reportArgumentType
Charge()("x")  # error: arg-type, reportArgumentType
Charge().s()  # error: call-arg, reportCallIssue


def takes(task: NodeTask[[str], str]) -> None: ...


takes(pay)  # error: arg-type, reportArgumentType; celery-types

# Options of the decorator -------------------------------------------------------------


def handler(number: int) -> str:
    return str(number)


def handler_of_base(self: Base, number: int) -> str:
    return self.gateway()


def handler_of_nothing() -> str:
    return ""


node_task(timout=3)  # error: call-overload, reportCallIssue
node_task(timeout="3")  # error: call-overload, reportArgumentType
node_task(atomic="yes")  # error: call-overload, reportArgumentType
node_task(rescue=3)  # error: call-overload, reportArgumentType; celery-types
node_task(bundle="many")  # error: call-overload, reportArgumentType
node_task(awaits_completion=None)  # error: call-overload, reportArgumentType
node_task(autoretry_for=ValueError)  # error: call-overload, reportArgumentType
node_task(max_retries="3")  # error: call-overload, reportArgumentType
node_task(bind=True)(handler_of_base)  # error: arg-type, reportArgumentType; celery-types
node_task(bind=True)(handler_of_nothing)  # error: arg-type, reportArgumentType
node_task(handler, timeout=3)  # error: call-overload, reportCallIssue
node_task(base=str)  # error: arg-type, reportArgumentType; celery-types

# Signals ------------------------------------------------------------------------------

signal(pay, subject="order:1")  # error: arg-type, reportArgumentType; celery-types
signal("shop.pay", subject="order:1")  # error: arg-type, reportArgumentType
signal(handler, subject="order:1")  # error: arg-type, reportArgumentType
signal(pay.s(1), close="yes")  # error: arg-type, reportArgumentType
signal(pay.s(1), max_retries="3")  # error: arg-type, reportArgumentType
signal(pay.s(1), rescue=3)  # error: arg-type, reportArgumentType; celery-types
signal(pay.s("x"), subject="order:1")  # error: arg-type, reportArgumentType
signal(pay.s(1), subject=1)  # error: arg-type, reportArgumentType
signal(pay.s(1), subject="order:1", delai=3)  # error: call-arg, reportCallIssue
signal(pay.s(1), subject="order:1", delay="3")  # error: arg-type, reportArgumentType
signal(pay.s(1), subject="order:1", fires_at=3)  # error: arg-type, reportArgumentType
signal(pay.s(1), subject="order:1", link="order:2")  # error: arg-type, reportArgumentType
signal_many([(pay.s(1), {"close": "1"})])  # error: typeddict-item, reportArgumentType
wrong: SignalOptions
wrong = {"subject": "1", "kee": "1"}  # error: typeddict-unknown-key, reportAssignmentType
signal_many([(pay, {"subject": "order:1"})])  # error: list-item, reportArgumentType; celery-types

# The running node ---------------------------------------------------------------------


@node_task
def parent() -> None:
    node = current_node()
    node.spawn(pay)  # error: arg-type, reportArgumentType; celery-types
    node.spawn(pay.s(1), subject="order:1")  # error: call-arg, reportCallIssue
    node.spawn(pay.s(1), barrier="yes")  # error: arg-type, reportArgumentType
    node.spawn(pay.s(1), close=True)  # error: call-arg, reportCallIssue
    node.spawn(pay.s(1), max_retries="3")  # error: arg-type, reportArgumentType
    node.flag("paid", max_retries=3)  # error: call-arg, reportCallIssue
    node.spawn_many(pay.s(1), mode=1)  # error: arg-type, reportArgumentType
    node.spawn_many([pay.s(1)], moode="blocking")  # error: call-arg, reportCallIssue
    node.spawn_many([pay])  # error: list-item, reportArgumentType; celery-types
    node.flag(pay)  # error: arg-type, reportArgumentType; celery-types
    node.flag("paid", delay="3")  # error: arg-type, reportArgumentType
    node.progress("halfway")  # error: arg-type, reportArgumentType
    node.attempt = 3  # error: misc, reportAttributeAccessIssue
    print(node.name.nothing)  # error: attr-defined, reportAttributeAccessIssue


# Workflows and verbs ------------------------------------------------------------------


def steer(node: Node, workflow: Workflow) -> None:
    Workflow.objects.for_subject("order:1")  # error: call-arg, reportCallIssue
    Workflow.objects.for_subject(1, "order")  # error: arg-type, reportArgumentType
    workflow.signal(pay.s(1), subject="order:1")  # error: call-arg, reportCallIssue
    workflow.signal(pay)  # error: arg-type, reportArgumentType; celery-types
    workflow.pause(by=3)  # error: arg-type, reportArgumentType
    workflow.tree(limits=3)  # error: call-arg, reportCallIssue
    workflow.render(color="red")  # error: arg-type, reportArgumentType
    node.add_child(pay.s(1), name="x")  # error: call-arg, reportCallIssue
    node.add_child(pay)  # error: arg-type, reportArgumentType; celery-types
    node.retry("me")  # error: call-arg, reportCallIssue
    node.cancel(reason=3)  # error: arg-type, reportArgumentType
    node.complete(1, attempt="first")  # error: arg-type, reportArgumentType
    node.fail(3)  # error: arg-type, reportArgumentType


complete_by_token(3)  # error: arg-type, reportArgumentType
fail_by_token("token")  # error: call-arg, reportCallIssue
fail_by_token("token", OSError())  # error: arg-type, reportArgumentType

# Tests --------------------------------------------------------------------------------


def simulate(sim: Simulation, task: Task[[int], str]) -> None:
    sim.kill_next("somewhere")  # error: arg-type, reportArgumentType
    sim.advance("an hour")  # error: arg-type, reportArgumentType
    sim.run(steps=3)  # error: call-arg, reportCallIssue
