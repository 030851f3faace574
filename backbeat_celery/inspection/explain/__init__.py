"""Say in one sentence why a node is not running, and what would make it run."""

from __future__ import annotations

from uuid import UUID

from backbeat_celery.engine.order.waiting_graph import find_cycle
from backbeat_celery.inspection.canvas_places import is_errback, is_link
from backbeat_celery.inspection.explain import reads
from backbeat_celery.inspection.explain.blocked import Explanation, MaySee, everything_visible
from backbeat_celery.inspection.explain.due import next_pass
from backbeat_celery.inspection.explain.phrases import moment
from backbeat_celery.models import Node, Workflow
from backbeat_celery.states import Status

__all__ = ["explain", "explain_workflow"]


def explain(node: Node, may_see: MaySee = everything_visible) -> str:
    """Say why a node is not running and what would make it run, from its row as it is now.

    Other nodes are named only if `may_see` says so.
    """
    return _explain(node, node.name, may_see)


def explain_workflow(workflow: Workflow) -> str:
    """Say what a workflow waits for."""
    return _explain(workflow, str(workflow), everything_visible)


def _explain(row: Node | Workflow, name: str, may_see: MaySee) -> str:
    try:
        return _explanation(reads.read(row.pk, row.alias), may_see)
    except Node.DoesNotExist:
        return f"{name} is gone: it was deleted or purged."


def _explanation(node: Node, may_see: MaySee) -> str:
    subject = str(node.workflow) if node.is_root else node.name
    if cycle := _cycle(node, may_see):
        return f"{subject} {cycle}."
    parent = None if node.is_finished else reads.parent_of(node)
    if parent is not None and parent.status == Status.CANCELED:
        above = Explanation(may_see).name(parent)
        return f"{subject} is below {above}, which was canceled; so is it {next_pass(node)}."
    explanation = Explanation(may_see)
    follows = "" if parent is None else _follows(node, parent, explanation)
    return f"{subject} {follows}{explanation.describe(node)}{_expiry(node)}."


def _follows(node: Node, parent: Node, explanation: Explanation) -> str:
    """Say what an unfinished callback was called for."""
    if is_link(node, parent):
        return f"was linked to {explanation.name(parent)}, gets its result, and "
    if is_errback(node):
        return f"is an error callback of {explanation.name(parent)}, and "
    return ""


def _expiry(node: Node) -> str:
    """Say until when an attempt must have begun."""
    if node.is_finished or node.expires_at is None:
        return ""
    return f"; it expires at {moment(node.expires_at, node.db_now)} unless it has begun by then"


def _cycle(node: Node, may_see: MaySee) -> str:
    """Describe a cycle of nodes that wait for each other, if this one waits for them."""
    if node.status not in {Status.WAITING, Status.READY}:
        return ""
    ids = find_cycle(node.pk, node.alias)
    return f"waits forever, because {describe_cycle(ids, node.alias, may_see)}" if ids else ""


def describe_cycle(ids: list[UUID], using: str, may_see: MaySee = everything_visible) -> str:
    """Name the nodes of a cycle in their order, and say how to break it."""
    nodes = Node.objects.using(using).in_bulk(ids)
    explanation = Explanation(may_see)
    names = [explanation.name(nodes[pk]) if pk in nodes else str(pk) for pk in ids]
    chain = ", which waits for ".join([*names[1:], names[0]])
    return f"{names[0]} waits for {chain}; cancel() one of them"
