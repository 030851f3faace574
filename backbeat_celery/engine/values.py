"""Read the values that nodes hand on, from the rows that have them.

The value of a node is its own result, that of its last child, or those of its children in order
(`Node.yields`). What a node gets as input (`Node.input`) is read when its attempt is claimed and
again for each further attempt; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload
from uuid import UUID

from celery.app.task import Context
from django.db.models import OuterRef, Subquery, TextField
from django.db.models.functions import Cast

from backbeat_celery.conf import settings
from backbeat_celery.exceptions import BackbeatError, InputTooLarge, NotFinished, NoValue
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.redaction import given_arguments, node_secrets, secrets_of
from backbeat_celery.models import Attempt, Node
from backbeat_celery.models.querysets import NodeQuerySet
from backbeat_celery.models.stored_errors import failure_of
from backbeat_celery.runtime.batches import batched
from backbeat_celery.states import AttemptOutcome, Input, Outcome, Status, Yields

PAGE = 1000
"""Rows that are read at once."""

FAILED_NODE = "failure"
"""The key of an error callback's options with the node that failed, if that is not its parent."""

SHAPE = (
    *("id", "workflow_id", "parent_id", "seq", "mode", "status", "outcome"),
    *("container", "input", "yields"),
)
"""What must be known of a node to find its value."""


class ValueMissing(Exception):
    """A node will never have the value that is asked for: part of it was canceled."""

    def __init__(self, name: str, pk: UUID) -> None:
        super().__init__(f"{name} {pk} has no value")
        self.name = name
        self.pk = pk


def value_of(node: Node, *, limit: int | None = None) -> Any:
    """Give the value of a finished node.

    Raises ValueMissing, NoValue for a result that could not be stored, and InputTooLarge for
    more than `limit` bytes.
    """
    return _Reader(node.alias, node, limit).read()


def finished_value(node: Node) -> Any:
    """Give the value of a node. Raises NotFinished, and NoValue if it will never have one."""
    if not node.is_finished:
        raise NotFinished(f"{node.name} {node.pk} is {node.status}; its value is not there yet.")
    try:
        return value_of(node)
    except ValueMissing as exc:
        raise NoValue(
            f"{exc.name} {exc.pk} was canceled or shut down, so there is no value."
        ) from None


def input_of(node: Node, *, is_lazy: bool = False) -> tuple[Any, ...]:
    """Give what a node gets before its own arguments. Raises what `value_of` does."""
    if node.input == Input.NONE:
        return ()
    if node.input == Input.FAILURE:
        return _failure(node)
    source = source_of(node)
    if source is None:
        return (_failed_id(node),)
    if is_lazy and source.yields == Yields.LIST:
        return (LazyInput(source),)
    return (value_of(source, limit=settings.max_input),)


def source_of(node: Node) -> Node | None:
    """Find the node whose value another one gets; None: the id of a node that has failed."""
    nodes = Node.objects.using(node.alias).only(*SHAPE, "name", "task")
    while node.input != Input.FAILED_ID:
        if node.input == Input.PREVIOUS:
            found = nodes.steps_before(_parent_of(node), node.seq).first()
            if found is None:
                raise ValueMissing(node.name, node.pk)
            return found
        parent = nodes.get(pk=_parent_of(node))
        if not parent.is_container:
            return parent
        node = parent
    return None


def _parent_of(node: Node) -> UUID:
    assert node.parent_id is not None  # roots get nothing
    return node.parent_id


# Failures -----------------------------------------------------------------------------------


def _failed_id(node: Node) -> str:
    """The id of the node that an error callback is about: its own parent, or one further up."""
    nodes = Node.objects.using(node.alias)
    while node.input == Input.PARENT:
        node = nodes.only(*SHAPE).get(pk=_parent_of(node))
    return nodes.only("celery_id").get(pk=_parent_of(node)).shown_id


def _about(node: Node) -> tuple[Node, Node]:
    """The node that an error callback hangs on, and the one that has failed; often the same."""
    nodes = Node.objects.using(node.alias)
    parent = nodes.get(pk=_parent_of(node))
    failed_id = node.options.get(FAILED_NODE)
    return parent, parent if failed_id is None else nodes.get(pk=failed_id)


def _failure(node: Node) -> tuple[Any, ...]:
    """Request, exception and traceback, as Celery gives them to an error callback."""
    parent, failed = _about(node)
    error, traceback = failure_of(failed)
    request = Context(
        id=parent.shown_id,
        task=parent.task,
        args=[*_given(parent), *parent.args],
        kwargs=dict(parent.kwargs),
        retries=parent.retries,
        hostname=failed.worker,
        root_id=str(parent.workflow_id),
        parent_id=str(parent.parent_id),
    )
    return request, error, traceback


def _given(node: Node) -> tuple[Any, ...]:
    """What a node has been given before its arguments; None in the place of what is not there."""
    if not node.task:  # a container calls nothing
        return ()
    try:
        return input_of(node)
    except (ValueMissing, BackbeatError):
        return (None,) * given_arguments(node)


# Secrets ------------------------------------------------------------------------------------


def all_secrets(node: Node) -> set[str]:
    """The texts of all hidden values of a node, those among its input included; reads them."""
    if not settings.redact:
        return set()
    given = () if node.input == Input.FAILURE else _given(node)
    return node_secrets(node) | secrets_given(node, given)


def secrets_given(node: Node, given: Sequence[Any]) -> set[str]:
    """The texts of all hidden values among what a node is given, which its row does not have."""
    if not settings.redact or node.input in {Input.NONE, Input.FAILED_ID}:
        return set()
    if node.input == Input.FAILURE:
        return {text for each in {*_about(node)} for text in all_secrets(each)}
    return secrets_of(node.task, [each for each in given if not isinstance(each, LazyInput)], {})


# Values -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Place:
    """A node whose value is wanted, and where it goes."""

    pk: UUID
    name: str
    status: str
    yields: int
    text: str | None
    target: list[Any]
    index: int


class _Reader:
    """Reads one value, a level of the tree at a time."""

    def __init__(self, using: str, node: Node, limit: int | None) -> None:
        self._using = using
        self._node = node
        self._limit = limit
        self._size = 0
        self._empty: list[UUID] = []
        """Nodes without a result: they may have one that could not be stored."""

    def read(self) -> Any:
        value: list[Any] = [None]
        rows = self._rows(Node.objects.using(self._using).filter(pk=self._node.pk))
        places = [self._place(row, value, 0) for row in rows]
        while places:
            places = self._take(places)
        if self._limit is not None and self._size > self._limit:
            raise InputTooLarge(
                f"The input takes {self._size} bytes as JSON, more than "
                f"BACKBEAT['MAX_INPUT'] = {self._limit}. Hand on references, or write "
                "the task with input='lazy', which reads a list in pages."
            )
        _refuse_unstored(self._empty, self._using)
        return value[0]

    def _rows(self, nodes: NodeQuerySet) -> Any:
        text = Cast("result", TextField())
        return nodes.values_list("pk", "parent_id", "name", "status", "outcome", "yields", text)

    def _place(self, row: tuple[Any, ...], target: list[Any], index: int) -> _Place:
        pk, _, name, status, outcome, yields, text = row
        _refuse_missing(name, pk, status, outcome)
        return _Place(pk, name, status, yields, text, target, index)

    def _take(self, places: Iterable[_Place]) -> list[_Place]:
        """Fill in results, and give the nodes below those whose value is their children's."""
        last: dict[UUID, _Place] = {}
        lists: dict[UUID, list[Any]] = {}
        for place in places:
            if place.yields == Yields.OWN:
                place.target[place.index] = self._decoded(place)
            elif place.yields == Yields.LAST:
                last[place.pk] = place
            else:
                place.target[place.index] = lists[place.pk] = []
        return [*self._last_children(last), *self._all_children(lists)]

    def _decoded(self, place: _Place) -> Any:
        if place.text is None:
            self._empty.append(place.pk)
            return None
        self._size += len(place.text)
        if self._limit is not None and self._size > self._limit:
            return None  # only the size is wanted now
        return payload.decode(place.text)

    def _last_children(self, parents: dict[UUID, _Place]) -> Iterator[_Place]:
        nodes = Node.objects.using(self._using)
        for some in batched(parents, PAGE):
            last = nodes.children_of(OuterRef("parent_id")).counting().order_by("-seq")
            children = nodes.filter(parent__in=some, seq=Subquery(last.values("seq")[:1]))
            found = {row[1]: row for row in self._rows(children)}
            for pk in some:
                place = parents[pk]
                if pk in found:
                    yield self._place(found[pk], place.target, place.index)

    def _all_children(self, parents: dict[UUID, list[Any]]) -> Iterator[_Place]:
        nodes = Node.objects.using(self._using)
        for some in batched(parents, PAGE):
            children = nodes.filter(parent__in=some).counting().order_by("parent_id", "seq")
            for row in self._rows(children).iterator(chunk_size=PAGE):
                values = parents[row[1]]
                values.append(None)
                yield self._place(row, values, len(values) - 1)


def _refuse_missing(name: str, pk: UUID, status: str, outcome: str | None) -> None:
    if status != Status.COMPLETE or outcome == Outcome.SHUTDOWN:
        raise ValueMissing(name, pk)


def _refuse_unstored(node_ids: Sequence[UUID], using: str) -> None:
    for some in batched(node_ids, PAGE):
        noted = Attempt.objects.using(using).filter(
            node__in=some, outcome=AttemptOutcome.SUCCEEDED, error__isnull=False
        )
        if attempt := noted.select_related("node").first():
            raise NoValue(
                f"{attempt.node.name} {attempt.node_id} has a result that could not be stored: "
                f"{attempt.error}"
            )


class LazyInput(Sequence[Any]):
    """The values of the members of a group, in order, read in pages when they are used."""

    def __init__(self, source: Node) -> None:
        self._using = source.alias
        self._source = source
        self._length: int | None = None

    def __repr__(self) -> str:
        return f"<values of the {len(self)} members of {self._source.name} {self._source.pk}>"

    def _members(self) -> NodeQuerySet:
        nodes = Node.objects.using(self._using).children_of(self._source.pk)
        return nodes.counting().order_by("seq")

    def __len__(self) -> int:
        if self._length is None:
            self._length = self._members().count()
        return self._length

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(index)
        (member,) = self._members().only(*SHAPE, "name")[at : at + 1]
        return self._value(member)

    def __iter__(self) -> Iterator[Any]:
        last = -1
        while members := list(self._page(last)):
            last = members[-1].seq
            results = [m.pk for m in members if m.yields == Yields.OWN and m.result is None]
            _refuse_unstored(results, self._using)
            for member in members:
                _refuse_missing(member.name, member.pk, member.status, member.outcome)
                yield member.result if member.yields == Yields.OWN else self._value(member)

    def _page(self, last: int) -> NodeQuerySet:
        members = self._members().filter(seq__gt=last)
        return members.only(*SHAPE, "name", "result")[:PAGE]

    def _value(self, member: Node) -> Any:
        return value_of(member, limit=settings.max_input)
