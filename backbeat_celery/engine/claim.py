"""Claim a node: the only way into `running`, and the fence around what follows.

A message says which attempt it would claim. One guarded UPDATE decides; whoever comes
second, late or with a forged message changes nothing.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Exists, OuterRef, Q

from backbeat_celery.conf import settings
from backbeat_celery.engine.after_commit import Publication, called_task
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.engine.publish_times import is_due
from backbeat_celery.engine.statements import claim as postgres
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.inputs.policy import Policy
from backbeat_celery.models import Node, Workflow
from backbeat_celery.models.transitions import RowDeleted, StaleNode, transition
from backbeat_celery.runtime import clock, failpoints
from backbeat_celery.runtime.lock_timeouts import step
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.sql import session
from backbeat_celery.states import CLAIMABLE, Status

logger = logging.getLogger(__name__)

TRIES = 5
"""How often a claim that lost a race looks again for the reason."""


@dataclass(frozen=True, slots=True)
class NodeMessage:
    """What a message says: look at this node, for this attempt."""

    node_id: UUID
    task: str
    attempt: int
    using: str
    claim_id: UUID
    others: tuple[UUID, ...] = ()
    """Nodes of the same task whose first attempts the message asks for as well."""
    task_id: str | None = None
    """The Celery id of the message."""

    @property
    def node_ids(self) -> tuple[UUID, ...]:
        """All nodes that the message is about."""
        return (self.node_id, *self.others)

    def each(self) -> list[NodeMessage]:
        """The same as messages about one node each."""
        return [replace(self, node_id=node_id, others=()) for node_id in self.node_ids]


@dataclass(slots=True)
class Claim:
    """A running attempt, as the worker that runs it holds it."""

    node: Node
    claim_id: UUID
    claimed_from: str
    policy: Policy
    claimed_at: datetime
    monotonic: float = field(default_factory=time.monotonic)
    specs: list[NodeSpec] = field(default_factory=list)
    max_retries: int | None = None
    progress: dict[str, Any] | None = None
    """What the handler said last, to be written with its outcome."""

    @property
    def using(self) -> str:
        return self.node.alias

    @property
    def is_current(self) -> Q:
        """Match the node's row while this attempt is the current one."""
        return Q(attempt=self.node.attempt, claim_id=self.claim_id)

    def now(self) -> datetime:
        """The database's time, carried on by this process's own monotonic clock."""
        if clock.is_simulated():
            return clock.simulated_now()
        return self.claimed_at + timedelta(seconds=time.monotonic() - self.monotonic)


def claim(message: NodeMessage, *, worker: str, policy: Policy) -> Claim | None:
    """Take the attempt that the message names; None if it is not to be had."""
    return repeat(lambda: _claim(message, worker, policy), using=message.using, outage=True)


class _Refused(Exception):
    """The attempt is not to be had; the message says why."""


def _claim(message: NodeMessage, worker: str, policy: Policy) -> Claim | None:
    if taken := postgres.take(message, worker, policy.timeout):
        node, now = taken
        return Claim(node, message.claim_id, Status.QUEUED, policy, now)
    why = "others keep changing it"
    for _ in range(TRIES):
        try:
            return _look_and_take(message, worker, policy)
        except StaleNode:
            continue
        except _Refused as refusal:
            why = str(refusal)
            break
    logger.debug(
        "Not claiming attempt %d of node %s: %s.",
        message.attempt,
        message.node_id,
        why,
        extra={"node_id": message.node_id, "attempt": message.attempt},
    )
    return None


def _look_and_take(message: NodeMessage, worker: str, policy: Policy) -> Claim:
    node = _read(message)
    if node is None:
        raise _Refused("there is no such node")
    if called_task(node) != message.task:
        raise _Refused(f"it calls {called_task(node) or 'nothing'}, not {message.task}")
    now: datetime = node.db_now
    if node.claim_id == message.claim_id and node.status == Status.RUNNING:
        # The answer to an earlier try of this very claim was lost.
        return Claim(node, message.claim_id, "", policy, now)
    if node.status not in CLAIMABLE or node.attempt != message.attempt - 1:
        raise _Refused(f"it is {node.status} with attempt {node.attempt}")
    if not is_due(node.fires_at, now):
        outbox().send([Publication.of(node, now)], message.using)
        raise _Refused("it is not due yet")
    if node.workflow.paused_at is not None:
        pause_due(node)
        raise _Refused("its workflow is paused")
    return _take(node, message, worker, policy, now)


def _read(message: NodeMessage) -> Node | None:
    if session.is_available(message.using):
        return postgres.named(message)
    return (
        Node.objects.using(message.using)
        .filter(pk=message.node_id)
        .select_related("workflow")
        .defer("result", "error")
        .with_time()
        .first()
    )


def _take(node: Node, message: NodeMessage, worker: str, policy: Policy, now: datetime) -> Claim:
    claimed_from = node.status
    transition(
        node,
        Status.RUNNING,
        guard=Q(_RUNS, Q(fires_at=None) | Q(fires_at__lte=clock.now()), attempt=node.attempt),
        attempt=message.attempt,
        claim_id=message.claim_id,
        task_id=message.task_id,
        worker=worker[:255],
        started_at=now,
        progress=None,
        lease_expires_at=clock.after(settings.lease),
        times_out_at=None if policy.timeout is None else clock.after(policy.timeout),
    )
    failpoints.hit("claim_written")
    return Claim(node, message.claim_id, claimed_from, policy, now)


_RUNS = Exists(Workflow.objects.filter(pk=OuterRef("workflow_id"), paused_at=None))
"""Match nodes whose workflow is not paused, in the very statement that claims."""


def pause_due(node: Node) -> None:
    """Write `paused` on a due node of a paused workflow.

    The workflow's lock orders this against a resume, which queues what it finds paused:
    raises StaleNode if the workflow goes on, or the node has changed.
    """
    using = node.alias
    with step(using):
        if lock_workflow(node.workflow_id, using).paused_at is None:
            raise StaleNode
        transition(node, Status.PAUSED, reason="due while the workflow is paused")


def lock_workflow(pk: UUID, using: str) -> Workflow:
    """Lock a workflow's row until the transaction ends: before any of its nodes.

    Raises RowDeleted if there is none.
    """
    features = connections[using].features
    no_key = features.has_select_for_no_key_update
    try:
        return Workflow.objects.using(using).select_for_update(no_key=no_key).get(pk=pk)
    except Workflow.DoesNotExist:
        raise RowDeleted from None
