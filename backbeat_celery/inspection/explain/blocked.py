"""Explain nodes that wait for other nodes, down to the one that all of them wait for."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from backbeat_celery.engine.order.consequences import (
    canceled_by_loss,
    canceled_by_shutdown,
    following_cancel,
)
from backbeat_celery.inputs.redaction import error_of, told_of
from backbeat_celery.inspection.canvas_places import is_errback
from backbeat_celery.inspection.explain import reads
from backbeat_celery.inspection.explain.due import claimable, next_pass, running
from backbeat_celery.inspection.explain.phrases import by, moment, named, paused, short, times
from backbeat_celery.inspection.explain.reads import Blockers
from backbeat_celery.models import Node
from backbeat_celery.states import Container, Input, Outcome, Status

DEEPEST = 12
"""Nodes that one sentence names at most."""


SOME = 100
"""Nodes that are counted at most if a sentence names only one."""


CHILDREN = {Container.CHAIN.value: "step", Container.GROUP.value: "member"}
"""What the children of a container are called."""

MaySee = Callable[[Node], bool]
UNSEEN = "a node that is not shown to you"


def everything_visible(node: Node) -> bool:
    """Hide no node."""
    return True


class Explanation:
    """A sentence about a node and what it waits for."""

    def __init__(self, may_see: MaySee = everything_visible) -> None:
        self._named: set[UUID] = set()
        self._may_see = may_see

    def name(self, node: Node) -> str:
        """Give the name of a node, or a placeholder if the user may not see it."""
        return named(node) if self._may_see(node) else UNSEEN

    def describe(self, node: Node) -> str:
        """Say what a node waits for or how it ended: a sentence without its subject."""
        if node.pk in self._named or len(self._named) >= DEEPEST:
            return f"is {node.status}"
        self._named.add(node.pk)
        match node.status:
            case Status.PENDING:
                return self._pending(node)
            case Status.READY:
                return self._ready(node)
            case Status.QUEUED | Status.RETRYING:
                return claimable(node)
            case Status.RUNNING:
                return running(node)
            case Status.WAITING:
                return self._root(node) if node.is_root else self._waiting(node)
            case Status.PAUSED:
                return self._paused(node)
            case Status.FAILED:
                return self._failed(node)
        return self._finished(node)

    def _pending(self, node: Node) -> str:
        parent = reads.parent_of(node)
        if parent is None or parent.is_finished:
            return f"waits for its parent's handler, which has ended: cancel() it{self._doctor()}"
        if parent.is_container and parent.status in {Status.PENDING, Status.READY}:
            begins = "is a later step of" if node.stage else "starts with"
            return f"{begins} {self._which(parent)}"
        if parent.status == Status.WAITING:
            return f"waits, although its parent's handler is done{self._doctor()}"
        return f"waits until the handler of its parent {self._which(parent)}"

    def _ready(self, node: Node) -> str:
        ahead = reads.blocking_siblings(node)
        if ahead is None:
            return f"waits for nothing any more and is queued {next_pass(node)}"
        if node.barrier:
            return f"is a barrier and waits for {self._among(ahead, 'earlier sibling')}"
        if node.input == Input.PREVIOUS:
            return self._step(node, ahead.first)
        return f"waits for its turn behind its sibling {self._which(ahead.first)}"

    def _step(self, node: Node, before: Node) -> str:
        """Say what a step of a canvas waits for: a body for the members of the header."""
        parent = reads.parent_of(node)
        is_body = parent is not None and parent.container == Container.CHORD
        members = reads.open_children(before) if is_body and self._may_see(before) else None
        if members is not None:
            return f"is the body of a chord and waits for {self._among(members, 'member', '')}"
        place = "the body of a chord" if is_body else f"step {node.seq + 1} of its chain"
        return f"is {place} and waits for the step before it, {self._which(before)}"

    def _waiting(self, node: Node) -> str:
        edges = self._edges(node)
        return edges or f"waits for nothing any more and is completed {next_pass(node)}"

    def _edges(self, node: Node) -> str:
        children, links = reads.open_children(node), reads.open_links(node)
        if children is None and links is None:
            return ""
        what = CHILDREN.get(node.container, "signal" if node.is_root else "child")
        if links is None:
            assert children is not None
            if node.container == Container.CHORD:
                return f"waits for {self._part(children.first)}"
            return f"waits for {self._among(children, what)}"
        if not self._may_see(links.first):
            far = "a signal of another workflow that is not shown to you"
            return f"waits by a link for {far}" + self._and_children(children, what)
        far = f"{named(links.first)} of the workflow {links.first.workflow}"
        if links.count > 1:
            far = f"{links.count} linked signals, among them {far}"
        if children is None:
            return f"waits by a link for {far}, which {self.describe(links.first)}"
        return f"waits by a link for {far}" + self._and_children(children, what)

    def _part(self, part: Node) -> str:
        """Say which part of a chord is not done: members of the header, or the body."""
        if part.seq:
            return f"its body {self._which(part)}"
        members = reads.open_children(part) if self._may_see(part) else None
        if members is None:
            return self._which(part)
        return self._among(members, "member")

    def _and_children(self, children: Blockers | None, what: str) -> str:
        return f", and for {self._among(children, what)}" if children is not None else ""

    def _root(self, node: Node) -> str:
        workflow = node.workflow
        is_paused = f"is {paused(workflow)} until resume(), " if workflow.paused_at else ""
        edges = self._edges(node)
        if workflow.closed_at is None:
            state = "is open"
            rest = edges or "waits for signals, or for close()"
        else:
            closed = f"{moment(workflow.closed_at)}{by(workflow.closed_by, workflow.close_reason)}"
            state = f"was closed at {closed}"
            rest = edges or f"is completed {next_pass(node)}"
        return f"{is_paused}{state} and {rest}"

    def _paused(self, node: Node) -> str:
        if node.workflow.paused_at is None:
            return f"was paused, its workflow was resumed, and it is queued {next_pass(node)}"
        return f"is due, but its workflow is {paused(node.workflow)}; resume() lets it run"

    def _failed(self, node: Node) -> str:
        change = reads.last_change(node)
        at = f" at {moment(change.at)}" if change else ""
        why = f" ({short(told_of(node, change.reason))})" if change and change.reason else ""
        error = f": {short(error_of(node))}" if node.error else ""
        rescue = reads.rescue_of(node)
        kind = "error callback" if rescue is not None and is_errback(rescue) else "rescue"
        help_ = f"; its {kind} {self.name(rescue)} is {rescue.status}" if rescue else ""
        return f"failed at attempt {node.attempt}{at}{why}{error}{help_}; {self._choices(node)}"

    def _choices(self, node: Node) -> str:
        """Name the verbs that help a failed node, with what they start and cancel."""
        if lost := canceled_by_loss(node):
            rows = Node.objects.using(node.alias).without_payload().in_bulk(lost[: SOME + 1])
            some = self._some([rows[pk] for pk in lost[: SOME + 1] if pk in rows])
            return (
                f"the canvas needs its value for {some}: retry() it, or resolve() it with a "
                "result, to let the canvas go on, or shutdown() or cancel() it to cancel that, too"
            )
        following = following_cancel(node)
        effect = "let the others continue"
        if following.started:
            effect = f"start {self._some(following.started)}"
        canceled = list(canceled_by_shutdown(node).without_payload()[: SOME + 1])
        if not canceled:
            return f"retry() it, or resolve(), shutdown() or cancel() it to {effect}"
        return (
            f"retry() it, or resolve() or cancel() it to {effect}, or shutdown() it to cancel "
            f"{self._some(canceled)}"
        )

    def _some(self, nodes: list[Node]) -> str:
        """Name the first of some nodes, and count the others."""
        rest = len(nodes) - 1
        if not rest:
            return self.name(nodes[0])
        return f"{self.name(nodes[0])} and {rest if rest < SOME else f'at least {SOME}'} more"

    def _finished(self, node: Node) -> str:
        change = reads.last_change(node)
        at = moment(node.finished_at) if node.finished_at else "an unknown time"
        who = by(change.actor, told_of(node, change.reason)) if change else ""
        if node.status == Status.CANCELED:
            return f"was canceled at {at}{who}"
        if node.outcome == Outcome.RESOLVED:
            return f"was resolved at {at}{who}, after it had failed: {short(error_of(node))}"
        if node.outcome == Outcome.SHUTDOWN:
            return f"was shut down at {at}{who}, after it had failed: {short(error_of(node))}"
        attempt = f" in attempt {node.attempt}" if node.attempt else ""
        return f"is complete: it succeeded{attempt} and finished at {at}"

    def _among(self, blockers: Blockers, what: str, its: str = "its ") -> str:
        """Count the blockers, and describe the most relevant one."""
        if blockers.count == 1:
            return f"{its}{what} {self._which(blockers.first)}"
        return f"{times(blockers.count, what)}, among them {self._which(blockers.first)}"

    def _which(self, node: Node) -> str:
        if not self._may_see(node):
            return UNSEEN
        return f"{named(node)}, which {self.describe(node)}"

    @staticmethod
    def _doctor() -> str:
        return "; backbeat_doctor --fix repairs that"
