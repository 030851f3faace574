"""Claim a node: the only way into the status `running`.

A message names the attempt to claim. One guarded UPDATE decides: a second, late or forged message
changes nothing. The claim id guards all later writes of the attempt.
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
from backbeat_celery.engine.advance import advance
from backbeat_celery.engine.after_commit import Publication, called_task
from backbeat_celery.engine.delivery.outbox import outbox
from backbeat_celery.engine.order.expiry import expire
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

MAX_TRIES = 5
"""Tries of a claim whose node is changed by other processes at the same time."""


@dataclass(frozen=True, slots=True)
class NodeMessage:
    """The content of a message: claim this attempt of this node."""

    node_id: UUID
    task: str
    attempt: int
    using: str
    claim_id: UUID
    others: tuple[UUID, ...] = ()
    """Other nodes of the same task whose first attempts the message is for, too."""
    task_id: str | None = None
    """The Celery id of the message."""

    @property
    def node_ids(self) -> tuple[UUID, ...]:
        """Ids of all nodes that the message is for."""
        return (self.node_id, *self.others)

    def each(self) -> list[NodeMessage]:
        """Give one message for each node."""
        return [replace(self, node_id=node_id, others=()) for node_id in self.node_ids]


@dataclass(slots=True)
class Claim:
    """A running attempt in the worker that runs it."""

    node: Node
    claim_id: UUID
    claimed_from: str
    policy: Policy
    claimed_at: datetime
    monotonic: float = field(default_factory=time.monotonic)
    specs: list[NodeSpec] = field(default_factory=list)
    max_retries: int | None = None
    progress: dict[str, Any] | None = None
    """The latest progress, to be written with the result."""
    input_error: Exception | None = None
    """Why the handler cannot get its input; the attempt fails with it."""
    given_secrets: set[str] = field(default_factory=set, repr=False)
    """The texts of the hidden values in that input."""
    yields: int | None = None
    """What the node's value will be, if the handler has changed that."""

    @property
    def using(self) -> str:
        return self.node.alias

    @property
    def is_current(self) -> Q:
        """Match the node's row while this attempt is the current one."""
        return Q(attempt=self.node.attempt, claim_id=self.claim_id)

    def now(self) -> datetime:
        """Give the database's time, advanced by this process's monotonic clock."""
        if clock.is_simulated():
            return clock.simulated_now()
        return self.claimed_at + timedelta(seconds=time.monotonic() - self.monotonic)


def claim(message: NodeMessage, *, worker: str, policy: Policy) -> Claim | None:
    """Claim the attempt that the message names; None if it cannot be claimed."""
    return repeat(lambda: _claim(message, worker, policy), using=message.using, outage=True)


class _Refused(Exception):
    """The attempt cannot be claimed; the text gives the reason."""


def _claim(message: NodeMessage, worker: str, policy: Policy) -> Claim | None:
    if taken := postgres.claim_first(message, worker, policy.timeout):
        node, now = taken
        return Claim(node, message.claim_id, Status.QUEUED, policy, now)
    why = "other processes keep changing it"
    for _ in range(MAX_TRIES):
        try:
            return _read_and_claim(message, worker, policy)
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


def _read_and_claim(message: NodeMessage, worker: str, policy: Policy) -> Claim:
    node = _read(message)
    if node is None:
        raise _Refused("there is no such node")
    if called_task(node) != message.task:
        raise _Refused(f"it calls {called_task(node) or 'nothing'}, not {message.task}")
    now: datetime = node.db_now
    if node.claim_id == message.claim_id and node.status == Status.RUNNING:
        # An earlier try of this claim was committed, but its answer was lost.
        return Claim(node, message.claim_id, "", policy, now)
    if node.status not in CLAIMABLE or node.attempt != message.attempt - 1:
        raise _Refused(f"it is {node.status} with attempt {node.attempt}")
    if is_expired(node, now):
        advance(expire(node), message.using)
        raise _Refused("it has expired")
    if not is_due(node.fires_at, now):
        outbox().send([Publication.of(node, now)], message.using)
        raise _Refused("it is not due yet")
    if node.workflow.paused_at is not None:
        pause_due(node)
        raise _Refused("its workflow is paused")
    return _write(node, message, worker, policy, now)


def _read(message: NodeMessage) -> Node | None:
    if session.is_available(message.using):
        return postgres.find_node(message)
    return (
        Node.objects.using(message.using)
        .filter(pk=message.node_id)
        .select_related("workflow")
        .defer("result", "error")
        .with_time()
        .first()
    )


def _write(node: Node, message: NodeMessage, worker: str, policy: Policy, now: datetime) -> Claim:
    claimed_from = node.status
    transition(
        node,
        Status.RUNNING,
        guard=Q(
            _NOT_PAUSED,
            Q(fires_at=None) | Q(fires_at__lte=clock.now()),
            Q(expires_at=None) | Q(expires_at__gt=clock.now()),
            attempt=node.attempt,
        ),
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


def is_expired(node: Node, now: datetime) -> bool:
    """Tell whether the time is over until which the first attempt had to begin."""
    return node.expires_at is not None and node.expires_at <= now and node.attempt == 0


_NOT_PAUSED = Exists(Workflow.objects.filter(pk=OuterRef("workflow_id"), paused_at=None))
"""Match nodes whose workflow is not paused, in the statement that claims."""


def pause_due(node: Node) -> None:
    """Set a due node of a paused workflow to `paused`.

    The lock on the workflow orders this and a resume, which queues all paused nodes. Raises
    StaleNode if the workflow was resumed or the node was changed.
    """
    using = node.alias
    with step(using):
        if lock_workflow(node.workflow_id, using).paused_at is None:
            raise StaleNode
        transition(node, Status.PAUSED, reason="due while the workflow is paused")


def lock_workflow(pk: UUID, using: str) -> Workflow:
    """Lock a workflow's row until the transaction ends; must come before locks on its nodes.

    Raises RowDeleted if there is none.
    """
    features = connections[using].features
    no_key = features.has_select_for_no_key_update
    try:
        return Workflow.objects.using(using).select_for_update(no_key=no_key).get(pk=pk)
    except Workflow.DoesNotExist:
        raise RowDeleted from None
