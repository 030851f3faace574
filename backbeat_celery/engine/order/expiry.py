"""Cancel nodes whose first attempt has not begun in time."""

from __future__ import annotations

from django.db.models import Q

from backbeat_celery.engine.after_commit import AfterCommit
from backbeat_celery.engine.order.dependents import cancel_with_dependents, lock_canvas
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.models import Node
from backbeat_celery.models.transitions import StaleNode
from backbeat_celery.runtime import clock
from backbeat_celery.runtime.lock_timeouts import step
from backbeat_celery.states import Status

EXPIRED = "expired"
"""The reason of these cancels, of the node itself and of what needs its value."""

MAY_EXPIRE = Q(attempt=0, status__in=[Status.PENDING, Status.READY, Status.QUEUED, Status.PAUSED])
"""Match nodes that no attempt has begun."""


def is_over() -> Q:
    """Match nodes that have expired. The clock is asked anew: a Simulation has its own."""
    return MAY_EXPIRE & Q(expires_at__lte=clock.now())


def expire(node: Node) -> AfterCommit:
    """Cancel a node, and what needs its value. Raises StaleNode if an attempt has begun."""
    assert node.parent_id is not None  # roots do not expire
    using = node.alias
    with step(using):
        lock_canvas(node)
        lock_node(node.parent_id, using)
        if not Node.objects.using(using).filter(is_over(), pk=node.pk).locked().exists():
            raise StaleNode
        return cancel_with_dependents(node, reason=EXPIRED)
