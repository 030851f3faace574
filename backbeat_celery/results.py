"""The result of a node as Celery's AsyncResult, for code and front ends that poll.

Everything is read from the rows, by any process; no result backend is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import states
from celery.exceptions import TaskRevokedError, TimeoutError
from vine import promise

from backbeat_celery.conf import settings
from backbeat_celery.exceptions import NoValue
from backbeat_celery.runtime.compat.celery import app_in_use
from backbeat_celery.states import Container, Status, Yields

if TYPE_CHECKING:
    from backbeat_celery.models import Node
    from backbeat_celery.models.querysets import NodeQuerySet

    # Celery's classes have no types of their own, and other ones in stubs.
    AsyncResult: Any = object
    GroupResult: Any = object

    def assert_will_not_block() -> None: ...
else:
    from celery.result import AsyncResult, GroupResult, assert_will_not_block

FIRST_WAIT, LONGEST_WAIT = 0.02, 0.5
"""Seconds between two looks of `get`."""

STATES = {
    Status.RUNNING: states.STARTED,
    Status.WAITING: states.STARTED,
    Status.RETRYING: states.RETRY,
}
"""Of unfinished nodes; of any other one it is PENDING."""


class NodeResult(AsyncResult):  # type: ignore[misc]
    """The result of a node, given the node's id or its task id.

    A chain's and a chord's is that of its last step, with the steps before it as `parent`; a
    group's is a GroupResult. `state` is FAILURE while a failed node holds it, and `get` raises
    the handler's own exception. An id that no node has is PENDING, as in Celery.
    """

    _node: Node | None
    _cache: dict[str, Any] | None

    def __new__(cls, id: str | UUID, *_: Any, **__: Any) -> NodeResult:
        """Choose the class that shows a group as a GroupResult."""
        node = _last_step(_find(id))
        is_group = node is not None and node.container == Container.GROUP
        made: NodeResult = object.__new__(NodeGroupResult if is_group else cls)
        made._node = node
        return made

    def __init__(self, id: str | UUID) -> None:
        self.id = str(id) if self._node is None else self._node.shown_id
        self.backend = None
        self.app = app_in_use()
        self.on_ready = promise()
        self._cache = None
        self._ignored = False

    def __reduce__(self) -> Any:
        return NodeResult, (self.id,)

    @property
    def node(self) -> Node | None:
        """The node's row, as it is now; None: there is no such node yet."""
        if self._node is None:
            self._node = _last_step(_find(self.id))
        else:
            self._node = _nodes(self._node.alias).filter(pk=self._node.pk).first()
        return self._node

    # What Celery reads -------------------------------------------------------------------------

    def _get_task_meta(self) -> dict[str, Any]:
        if self._cache is not None:
            return self._cache
        meta = self._read()
        if meta["status"] in states.READY_STATES and meta["status"] != states.FAILURE:
            self._cache = meta  # a failed node may be retried
        return meta

    def _read(self) -> dict[str, Any]:
        node = self.node
        if node is None:
            return {"status": states.PENDING, "result": None}
        meta = {
            "status": STATES.get(Status(node.status), states.PENDING),
            "result": None,
            "traceback": None,
            "name": node.task,
            "args": list(node.args),
            "kwargs": dict(node.kwargs),
            "worker": node.worker,
            "retries": node.retries,
            "queue": node.options.get("queue"),
            "date_done": node.finished_at,
            "parent_id": str(node.parent_id),
        }
        if node.is_finished:
            return {**meta, **_end_of(node)}
        from backbeat_celery.inspection.holder import failed_holder
        from backbeat_celery.models.stored_errors import failure_of

        if holder := failed_holder(node):
            error, traceback = failure_of(holder)
            return {**meta, "status": states.FAILURE, "result": error, "traceback": traceback}
        return meta

    def ready(self) -> bool:
        """Whether it is finished, or a failed node holds it."""
        return self.state in states.READY_STATES

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = LONGEST_WAIT,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], None] | None = None,
        on_message: Any = None,
        on_interval: Callable[[], None] | None = None,
        disable_sync_subtasks: bool = True,
        **_: Any,
    ) -> Any:
        """Wait until it is ready, and give the value or raise the exception.

        Raises Celery's TimeoutError after `timeout` seconds.
        """
        del no_ack, follow_parents, on_message
        if disable_sync_subtasks:
            assert_will_not_block()
        meta = self._wait(timeout, interval, on_interval)
        value = meta["result"]
        if propagate and meta["status"] in states.PROPAGATE_STATES:
            raise value
        if callback is not None:
            callback(self.id, value)
        return value

    wait = get

    def _wait(
        self, timeout: float | None, interval: float, on_interval: Callable[[], None] | None
    ) -> dict[str, Any]:
        until = None if timeout is None else time.monotonic() + timeout
        pause = FIRST_WAIT
        while True:
            meta = self._get_task_meta()
            if meta["status"] in states.READY_STATES:
                return meta
            if until is not None and time.monotonic() >= until:
                raise TimeoutError("The operation timed out.")
            if on_interval is not None:
                on_interval()
            time.sleep(pause if until is None else min(pause, max(0.0, until - time.monotonic())))
            pause = min(pause * 1.5, interval, LONGEST_WAIT)

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Raise the exception if it has failed, else give the value there is."""
        meta = self._get_task_meta()
        if propagate and meta["status"] in states.PROPAGATE_STATES:
            raise meta["result"]
        if callback is not None:
            callback(self.id, meta["result"])
        return meta["result"]

    maybe_reraise = maybe_throw

    @property
    def parent(self) -> NodeResult | None:
        """The result of the step before it in its canvas."""
        row = self._node
        while row is not None and row.parent_id is not None:
            nodes = _nodes(row.alias)
            above = nodes.get(pk=row.parent_id)
            if above.container not in {Container.CHAIN, Container.CHORD}:
                return None
            if found := nodes.steps_before(above.pk, row.seq).first():
                return NodeResult(found.pk)
            row = above
        return None

    @property
    def children(self) -> list[NodeResult]:
        """The results of the node's children."""
        if self._node is None:
            return []
        rows = _nodes(self._node.alias).children_of(self._node.pk)
        return [NodeResult(pk) for pk in rows.order_by("seq").values_list("pk", flat=True)]

    def as_list(self) -> list[str]:
        """The ids of this step and of those before it, the last one first."""
        above = self.parent
        return [self.id, *(above.as_list() if above is not None else ())]

    def as_tuple(self) -> Any:
        """This result and those before it, as Celery's `result_from_tuple` takes them."""
        above = self.parent
        return (self.id, above.as_tuple() if above is not None else None), None

    def revoke(self, *_: Any, **__: Any) -> None:
        """Cancel the node."""
        if (node := self.node) is not None and not node.is_finished:
            node.cancel(reason="revoked")

    def forget(self) -> None:
        """Do nothing: the rows are kept until they are purged."""

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:
        """Raise NotImplementedError: nothing tells this process of the end; link a task."""
        raise NotImplementedError("No message tells this process of the end: link() a task.")


class NodeGroupResult(NodeResult, GroupResult):  # type: ignore[misc]
    """The results of a group's members, in order."""

    @property
    def results(self) -> list[NodeResult]:
        """The members' results."""
        assert self._node is not None
        rows = _nodes(self._node.alias).children_of(self._node.pk).counting()
        return [NodeResult(pk) for pk in rows.order_by("seq").values_list("pk", flat=True)]

    @property
    def children(self) -> list[NodeResult]:
        """The members' results."""
        return self.results

    def __iter__(self) -> Iterator[NodeResult]:
        return iter(self.results)

    def join(self, timeout: float | None = None, propagate: bool = True, **options: Any) -> Any:
        """Wait for all members, and give their values."""
        return self.get(timeout, propagate, **options)

    join_native = join

    def get(self, timeout: float | None = None, propagate: bool = True, *a: Any, **o: Any) -> Any:
        """Wait for all members; without `propagate` exceptions are in their places."""
        if propagate and not o.get("callback"):
            return NodeResult.get(self, timeout, propagate, *a, **o)  # one look for all members
        until = None if timeout is None else time.monotonic() + timeout
        results = self.results
        values = []
        for result in results:
            left = None if until is None else max(0.0, until - time.monotonic())
            values.append(result.get(left, propagate, *a, **o))
        return values

    def ready(self) -> bool:
        """Whether all members are ready."""
        results = self.results
        return all(result.ready() for result in results) if results else super().ready()

    def successful(self) -> bool:
        """Whether all members have succeeded."""
        results = self.results  # without any it may have been canceled
        return all(each.successful() for each in results) if results else super().successful()

    def failed(self) -> bool:
        """Whether any member has failed."""
        return any(result.failed() for result in self.results)

    def as_tuple(self) -> Any:
        """This group, its members and what was before it."""
        above = self.parent
        return (
            (self.id, above.as_tuple() if above is not None else None),
            [result.as_tuple() for result in self.results],
        )


def _nodes(using: str) -> NodeQuerySet:
    # Task modules import this module before there are models.
    from backbeat_celery.models import Node

    return Node.objects.using(using)


def _find(id: str | UUID) -> Node | None:
    """The node with that id; of those whose callers have chosen the same one, the newest."""
    from backbeat_celery.models import node_alias

    for alias in settings.databases or [node_alias()]:
        if found := _find_in(str(id), alias):
            return found
    return None


def _find_in(id: str, alias: str) -> Node | None:
    nodes = _nodes(alias)
    with suppress(ValueError):
        if found := nodes.filter(pk=UUID(id)).first():
            return found
    return nodes.for_task_id(id).order_by("-pk").first()


def _last_step(node: Node | None) -> Node | None:
    """The node that a chain's or a chord's value comes from."""
    while node is not None and node.is_container and node.yields == Yields.LAST:
        steps = _nodes(node.alias).children_of(node.pk).counting()
        last = steps.order_by("-seq").first()
        if last is None:
            break
        node = last
    return node


def _end_of(node: Node) -> dict[str, Any]:
    if node.status == Status.CANCELED:
        return _revoked(node)
    from backbeat_celery.engine.values import ValueMissing, value_of

    try:
        return {"status": states.SUCCESS, "result": value_of(node)}
    except ValueMissing as exc:
        missing = _nodes(node.alias).filter(pk=exc.pk).first()
        return _revoked(missing or node)
    except NoValue as exc:
        return {"status": states.FAILURE, "result": exc}


def _revoked(node: Node) -> dict[str, Any]:
    last = node.transitions.order_by("-pk").first()
    reason = last.reason if last is not None else ""
    state = states.IGNORED if reason == "ignored" else states.REVOKED
    return {"status": state, "result": TaskRevokedError(reason or "canceled")}
