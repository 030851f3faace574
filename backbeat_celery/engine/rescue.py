"""Start what is called when a node has just failed: its rescue, and error callbacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from backbeat_celery.engine.after_commit import AfterCommit, Announcements
from backbeat_celery.engine.failure_log import Failure
from backbeat_celery.engine.order.dependents import PLACE
from backbeat_celery.engine.order.finish import add_at_once, lock_node
from backbeat_celery.engine.values import FAILED_NODE
from backbeat_celery.inputs.callbacks import callbacks_of, in_context_of, with_headers
from backbeat_celery.inputs.message_headers import OPTION
from backbeat_celery.inputs.node_spec import NodeSpec
from backbeat_celery.inputs.policy import Policy, rescue_options
from backbeat_celery.models import Node
from backbeat_celery.runtime import failpoints
from backbeat_celery.states import Container, Input, Mode, Yields

ERRBACK_KEY = "errback"
"""The first word of the key of an error callback that is called once for many failures."""


def call_back(node: Node, policy: Policy, reason: str, error: str | None = None) -> AfterCommit:
    """Add the rescue and the error callbacks, in the transaction that sets `node` to failed.

    They start at once although their parent is failed, and no node waits for them. Their tasks
    need not be registered in this process. The failure is announced with or without them.
    """
    after_commit = AfterCommit(
        announcements=Announcements(failed=[Failure.of(node, reason, error)])
    )
    callbacks = callbacks_of(node.options)
    rescue = _rescue(node, policy, callbacks.rescue)
    specs = [] if rescue is None else [with_headers(rescue, node.options.get(OPTION, {}))]
    specs += in_context_of(node.options, callbacks.errbacks)
    if specs:
        parent, now = lock_node(node.pk, node.alias)
        after_commit += add_at_once(parent, [replace(spec, rescue=True) for spec in specs], now)
    after_commit += _call_back_above(node)
    failpoints.hit("rescue_called")
    return after_commit


def _rescue(node: Node, policy: Policy, own: NodeSpec | None) -> NodeSpec | None:
    """The rescue, if the node or its task has one; it gets the failed node's id."""
    if own is not None:
        args = [node.pk, *own.args] if own.input == Input.FAILED_ID else own.args
        return replace(own, args=args, input=Input.NONE)
    if name := policy.rescue:
        options = rescue_options(node, name)
        return NodeSpec(name, name, Mode.FIRE_AND_FORGET, args=[node.pk], options=options)
    return None


def _call_back_above(node: Node) -> AfterCommit:
    """Call the error callbacks that a failure below them concerns.

    Those of a chord's body are called when a member of the header fails, once, whatever the number
    of members that do: as in Celery the body will not run. Those of a node that was replaced are
    its replacement's.
    """
    nodes = Node.objects.using(node.alias)
    after_commit, called = AfterCommit(), _Called(node)
    row = node
    while row.parent_id is not None and row.counts:
        parent = nodes.only(*PLACE, "options").get(pk=row.parent_id)
        if parent.container == Container.CHORD and row.seq == 0:
            body = nodes.only(*PLACE, "options").get(parent_id=parent.pk, seq=1)
            called.carriers, called.once = list(_first_calls(body)), True
            after_commit += called.call(called.carriers)
        elif parent.yields == Yields.LAST and not parent.is_container:
            after_commit += called.call([parent] * len(called.carriers))
        if parent.yields == Yields.OWN:
            break
        row = parent
    return after_commit


class _Called:
    """The error callbacks that one failure has called further up."""

    def __init__(self, failed: Node) -> None:
        self._failed = failed
        self._known: list[NodeSpec] = []
        self.carriers: Sequence[Node] = [failed]
        """The nodes whose ids the callbacks get, and whose children they become."""
        self.once = False
        """Whether later failures call them no more."""

    def call(self, sources: Sequence[Node]) -> AfterCommit:
        """Call those of a source on each carrier; what was called further down, not again.

        Celery gives the error callback of a chord to chords in its header as well.
        """
        after_commit, called = AfterCommit(), []
        for carrier, source in zip(self.carriers, sources, strict=True):
            found = callbacks_of(source.options).errbacks
            fresh = [spec for spec in found if not self._is_known(spec)]
            if fresh:
                after_commit += self._call(carrier, source, fresh)
            called += fresh
        self._known += called
        return after_commit

    def _call(self, carrier: Node, source: Node, errbacks: Sequence[NodeSpec]) -> AfterCommit:
        parent, now = lock_node(carrier.pk, carrier.alias)
        keys = [
            f"{ERRBACK_KEY} {source.pk} {n}" if self.once else None for n in range(len(errbacks))
        ]
        children = Node.objects.using(parent.alias).children_of(parent.pk)
        known = {*children.filter(key__in=keys).values_list("key", flat=True)}
        if parent.is_finished:
            return AfterCommit()
        specs = [
            replace(
                spec,
                rescue=True,
                key=key,
                options={**spec.options, FAILED_NODE: str(self._failed.pk)},
            )
            for spec, key in zip(in_context_of(source.options, errbacks), keys, strict=True)
            if key is None or key not in known
        ]
        return add_at_once(parent, specs, now)

    def _is_known(self, spec: NodeSpec) -> bool:
        return any(replace(spec, id=other.id) == other for other in self._known)


def _first_calls(body: Node) -> Iterator[Node]:
    """The nodes whose error callbacks stand for the whole of a body."""
    rows = [body]
    while rows:
        row = rows.pop(0)
        if not row.is_container:
            yield row
            continue
        children = Node.objects.using(row.alias).children_of(row.pk).order_by("seq")
        children = children.only(*PLACE, "options", "celery_id")
        if row.container == Container.GROUP:
            rows += children
        elif row.container == Container.CHAIN:
            rows += children[:1]
        else:
            rows += children.filter(seq=1)
