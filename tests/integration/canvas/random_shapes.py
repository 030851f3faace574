"""Random canvases as plain data, and the signatures that they stand for.

A shape is a list of a form and what it is made of, so that a task can be called with one and
replace itself. Every task is pure: its result tells how it was called.
"""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from typing import Any

from celery import Signature, chain, chord, group, shared_task
from hypothesis import strategies as st

Shape = list[Any]


@shared_task(name="tests.canvas.mark")
def mark(label: Any, *args: Any, **kwargs: Any) -> Any:
    """Tell how it was called. What a canvas gives it comes before its label."""
    return [label, *args, *([kwargs] if kwargs else [])]


@shared_task(name="tests.canvas.last")
def last(*args: Any, **kwargs: Any) -> Any:
    return args[-1] if args else None


@shared_task(name="tests.canvas.become", bind=True)
def become(self: Any, *args: Any, shape: Shape, **kwargs: Any) -> Any:
    """Replace itself, and hand on what it was given."""
    return self.replace(signature_of(shape, is_eager=self.request.is_eager).clone(args, kwargs))


@shared_task(name="tests.canvas.chunked")
def chunked(count: int, size: int) -> Any:
    """Give what `mark.chunks` gives."""
    items = [[i, -i] for i in range(count)]
    return [items[first : first + size] for first in range(0, count, size)]


def signature_of(shape: Shape, *, is_eager: bool = False) -> Any:
    """Make the canvas that a shape describes, by Celery's own classes and operators."""
    return _Maker(is_eager).make(shape)


class _Maker:
    def __init__(self, is_eager: bool) -> None:
        self._is_eager = is_eager

    def make(self, shape: Shape) -> Any:
        form, *parts = shape
        return getattr(self, form)(*parts)

    def _all(self, shapes: list[Shape]) -> list[Any]:
        return [self.make(shape) for shape in shapes]

    def task(self, name: str, args: list[Any], is_immutable: bool) -> Any:
        signature = {"mark": mark, "last": last}[name].s(*args)
        return signature.set(immutable=True) if is_immutable else signature

    def replace(self, shape: Shape) -> Any:
        return become.s(shape=shape)

    def chain(self, shapes: list[Shape]) -> Any:
        return chain(*self._all(shapes))

    def pipe(self, shapes: list[Shape]) -> Any:
        return reduce(or_, self._all(shapes))

    def group(self, shapes: list[Shape]) -> Any:
        return group(*self._all(shapes))

    def chord(self, header: list[Shape], body: Shape, is_group: bool) -> Any:
        members: Any = self._all(header)
        return chord(group(members) if is_group else members, self.make(body))

    def chunks(self, count: int, size: int) -> Any:
        # Eager, chunks would be sent to the broker.
        if self._is_eager:
            return chunked.si(count, size)
        return mark.chunks([(i, -i) for i in range(count)], size)

    def map(self, items: list[Any]) -> Any:
        return last.map(items)

    def starmap(self, items: list[Any]) -> Any:
        return mark.starmap(items)

    def twice(self, shape: Shape, form: str) -> Any:
        """Use one signature object twice."""
        one = self.make(shape)
        if form == "chord":
            return chord([one, one], one)
        return (chain if form == "chain" else group)(one, one)

    def given(self, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Any:
        return self.make(shape).clone(args, kwargs)

    def json(self, shape: Shape) -> Any:
        """The canvas as it comes out of a message."""
        return Signature.from_dict(json.loads(json.dumps(self.make(shape))))


VALUES = st.one_of(st.none(), st.integers(0, 9), st.sampled_from(["a", [], [1], {"k": None}]))
TASKS = st.one_of(
    st.builds(
        lambda args, fixed: ["task", "mark", args, fixed],
        st.lists(VALUES, min_size=1, max_size=2),
        st.booleans(),
    ),
    st.builds(
        lambda args, fixed: ["task", "last", args, fixed],
        st.lists(VALUES, max_size=1),
        st.booleans(),
    ),
)
MAPS = st.one_of(
    st.builds(lambda items: ["map", items], st.lists(VALUES, max_size=3)),
    st.builds(lambda items: ["starmap", [[i] for i in items]], st.lists(VALUES, max_size=3)),
    st.builds(lambda n, size: ["chunks", n, size], st.integers(0, 4), st.integers(1, 3)),
)


def _forms(shapes: Any) -> Any:
    few = st.lists(shapes, max_size=3)
    return st.one_of(
        st.builds(lambda steps: ["chain", steps], few),
        st.builds(lambda steps: ["pipe", steps], st.lists(shapes, min_size=1, max_size=4)),
        st.builds(lambda members: ["group", members], few),
        st.builds(lambda *parts: ["chord", *parts], few, shapes, st.booleans()),
        st.builds(
            lambda *parts: ["twice", *parts],
            shapes,
            st.sampled_from(["chain", "group", "chord"]),
        ),
        st.builds(
            lambda *parts: ["given", *parts],
            shapes,
            st.lists(VALUES, max_size=1),
            st.dictionaries(st.just("given"), VALUES),
        ),
        st.builds(lambda shape: ["replace", shape], shapes),
        st.builds(lambda shape: ["json", shape], shapes),
    )


SHAPES = _forms(st.recursive(st.one_of(TASKS, TASKS, MAPS), _forms, max_leaves=8))
