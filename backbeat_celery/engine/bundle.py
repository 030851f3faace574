"""Bundles: one message for several due nodes of a task with short handlers.

The nodes are published and claimed together, their handlers run one after another, and their
results are recorded together. Each node has its own attempt, outcome and history. Only first
attempts are bundled: a node that has failed, or has killed its worker, is retried alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.claim import Claim, NodeMessage, claim
from backbeat_celery.engine.outcomes import AttemptResult
from backbeat_celery.engine.record import record
from backbeat_celery.engine.statements.bundles import record_leaves
from backbeat_celery.engine.statements.claim import claim_several
from backbeat_celery.exceptions import StaleAttempt
from backbeat_celery.inputs.policy import Policy
from backbeat_celery.models import Node
from backbeat_celery.runtime import failpoints
from backbeat_celery.runtime.transactions import repeat
from backbeat_celery.states import Status

logger = logging.getLogger(__name__)


def claim_bundle(message: NodeMessage, *, worker: str, policy: Policy) -> list[Claim]:
    """Claim those nodes of a message that can be claimed, in the message's order."""

    def once() -> dict[UUID, Claim]:
        return {
            node.pk: Claim(node, message.claim_id, Status.QUEUED, policy, now)
            for node, now in claim_several(message, worker, policy.timeout)
        }

    taken = repeat(once, using=message.using, outage=True)
    claims = []
    for single in message.each():
        mine = taken.get(single.node_id) or claim(single, worker=worker, policy=policy)
        if mine is not None:
            claims.append(mine)
    return claims


def still_claimed(claims: Sequence[Claim]) -> list[Claim]:
    """Leave out attempts that were canceled or lost while others of the bundle ran."""
    if not claims:
        return []
    ids = [mine.node.pk for mine in claims]
    rows = Node.objects.using(claims[0].using).filter(pk__in=ids, claim_id=claims[0].claim_id)
    held = set(rows.with_lease().values_list("pk", flat=True))
    return [mine for mine in claims if mine.node.pk in held]


def record_bundle(ended: Sequence[tuple[Claim, AttemptResult]]) -> AfterCommit:
    """Write the results of one bundle; those of stale attempts are discarded."""
    failpoints.hit("before_record")
    using = ended[0][0].using
    after_commit, written = repeat(lambda: record_leaves(ended), using=using, outage=True)
    for mine, ending in ended:
        if mine.node.pk in written:
            continue
        try:
            after_commit += record(mine, ending)
        except StaleAttempt as exc:
            logger.warning("Discarding the result of a stale attempt: %s", exc)
    failpoints.hit("recorded")
    return after_commit
