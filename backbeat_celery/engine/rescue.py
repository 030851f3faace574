"""Start the rescue of a node that has just failed, as a child of it."""

from __future__ import annotations

from backbeat_celery.engine.after_commit import AfterCommit, Announcements
from backbeat_celery.engine.failure_log import Failure
from backbeat_celery.engine.order.finish import lock_node
from backbeat_celery.engine.order.placement import Placement
from backbeat_celery.inputs.message_headers import OPTION
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.inputs.policy import Policy, rescue_options
from backbeat_celery.models import Node
from backbeat_celery.runtime import failpoints
from backbeat_celery.states import Mode


def call_rescue(node: Node, policy: Policy, reason: str, error: str | None = None) -> AfterCommit:
    """Add the rescue, if the task has one, in the transaction that sets `node` to failed.

    The rescue starts at once although its parent is failed, and no node waits for it. Its only
    argument is the failed node's id. Its task need not be registered in this process. The failure
    is announced with or without a rescue.
    """
    announcements = Announcements(failed=[Failure.of(node, reason, error)])
    if not policy.rescue:
        return AfterCommit(announcements=announcements)
    parent, now = lock_node(node.pk, node.alias)
    placement = Placement(parent, now)
    name = policy.rescue
    options = rescue_options(node, name)
    if OPTION in node.options:
        # The current process may be a sweeper, so the headers are those of the failed node.
        options = {**options, OPTION: node.options[OPTION]}
    rescue = NodeSpec(
        name, name, Mode.FIRE_AND_FORGET, args=[node.pk], options=options, rescue=True
    )
    placement.add([rescue], spawned_by=None)
    placement.assign_statuses()
    rows = Node.objects.using(node.alias).filter(pk=node.pk)
    rows.update(**placement.counters())
    after_commit = placement.insert()
    after_commit.announcements += announcements
    failpoints.hit("rescue_called")
    return after_commit
