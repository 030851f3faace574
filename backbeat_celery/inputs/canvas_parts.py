"""The parts of a canvas, as Celery writes them: forms, members, steps, and what they are given.

Everything here reads signatures. What nodes are made of them is in `canvas`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from celery import Signature, Task
from celery.canvas import maybe_signature
from celery.utils.functional import maybe_list

from backbeat_celery.exceptions import BadInput, UnsupportedOption
from backbeat_celery.runtime.text import quote
from backbeat_celery.states import Container, Input

DEEPEST = 100
"""Levels of canvases within canvases."""

FORMS = frozenset({*Container.values, "chunks"})

CALLBACK_OPTIONS = ("link", "link_error")

OF_THE_CANVAS = frozenset({*CALLBACK_OPTIONS, "task_id", "chord", "chain"})
"""Options of a canvas that do not go on to its tasks as they are."""

SHOWN = 8
"""Names of a place in a canvas that an error shows."""

PARTS = frozenset({"tasks", "header", "body", "kwargs"})
"""Keyword arguments of a canvas that are what it is made of."""

SHAPE: Mapping[str, tuple[type, ...]] = {
    "task": (str,),
    "args": (list, tuple),
    "kwargs": (dict,),
    "options": (dict,),
    "subtask_type": (str, type(None)),
}
"""What a signature is made of. One that was JSON may be anything."""

NOT_CELERYS = (AttributeError, KeyError, TypeError, ValueError)
"""What Celery raises for a signature that it has not written."""


class TooDeep(BadInput):
    """A canvas within so many others."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or f"The canvas is nested more than {DEEPEST} levels deep.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a canvas a step is, for errors."""

    names: tuple[str, ...] = ()
    depth: int = 0

    def __truediv__(self, name: str) -> Place:
        return Place((*self.names, name), self.depth)

    def below(self) -> Place:
        """The same place, one level of canvases deeper."""
        if self.depth >= DEEPEST:
            raise self.error(TooDeep())
        return Place(self.names, self.depth + 1)

    def error(self, exc: BadInput) -> BadInput:
        """The same error, with the place."""
        if not self.names:
            return exc
        told = type(exc)(f"{' > '.join(self.shown())}: {exc}")
        if isinstance(told, UnsupportedOption) and isinstance(exc, UnsupportedOption):
            told.anchor = exc.anchor
        return told

    def shown(self) -> Sequence[str]:
        """The names, without those in the middle of a long way down."""
        names = self.names
        return names if len(names) <= SHOWN else (*names[:2], "...", *names[3 - SHOWN :])


@dataclass(frozen=True, slots=True)
class Given:
    """What a step gets from the canvas around it."""

    input: Input = Input.NONE
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    links: tuple[Any, ...] = ()
    errbacks: tuple[Any, ...] = ()
    task_id: str | None = None
    """Chosen for a canvas, whose value is this step's; an id of the step's own comes before."""


NOTHING_GIVEN = Given()


def form_of(signature: Any) -> str:
    """The form of a canvas; empty for the call of one task."""
    kind: str = signature.get("subtask_type") or ""
    if not kind and str(signature.get("task", "")).startswith("celery."):
        kind = str(signature["task"]).removeprefix("celery.")
    return kind if kind in FORMS else ""


def callbacks_in(signature: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """The callbacks of a signature that are in its option `link` or `link_error`."""
    return tuple(maybe_list((signature.get("options") or {}).get(name)) or ())


def joined(*callbacks: Iterable[Any]) -> tuple[Any, ...]:
    """Callbacks in order, each once, as Celery adds them."""
    found: list[Any] = []
    for callback in (one for some in callbacks for one in some):
        if callback not in found:
            found.append(callback)
    return tuple(found)


def added_kwargs(canvas: Any) -> dict[str, Any]:
    """Keyword arguments that were given to a canvas itself, as by `clone()`, for its tasks."""
    return {k: v for k, v in canvas.kwargs.items() if k not in PARTS}


def handed_on(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a canvas that its tasks get."""
    return {k: v for k, v in options.items() if k not in OF_THE_CANVAS and v is not None}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain or one member of a group."""

    signature: Any
    given: Given
    place: Place

    def begun_with(
        self, args: Iterable[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Step:
        """The same step, which gets what is given to the beginning of its chain."""
        given = replace(
            self.given,
            args=(*args, *self.given.args),
            kwargs={**self.given.kwargs, **kwargs},
            options={**self.given.options, **options},
        )
        return replace(self, given=given)

    def ended_with(self, links: Iterable[Any], task_id: str | None) -> Step:
        """The same step, which gets what follows the end of its chain."""
        given = replace(
            self.given,
            links=joined(self.given.links, links),
            task_id=self.given.task_id or task_id,
        )
        return replace(self, given=given)


def as_signature(raw: Any, place: Place) -> Any:
    """Give a signature for what a canvas has in a place; BadInput names the place."""
    if isinstance(raw, Task):
        return raw.s()
    if not isinstance(raw, dict) or "task" not in raw:
        raise place.error(BadInput(f"{quote(raw)} is neither a task nor a signature."))
    if not SHAPE.keys() <= raw.keys():  # written by hand
        raw = {"args": (), "kwargs": {}, "options": {}, "subtask_type": None, **raw}
    for name, kinds in SHAPE.items():
        if not isinstance(raw.get(name), kinds):
            told = f"{raw['task']!r:.100} is no signature: its {name} is {quote(raw.get(name))}."
            raise place.error(BadInput(told))
    is_plain = type(raw) in {dict, Signature} and form_of(raw)
    try:
        found: Any = Signature.from_dict(dict(raw)) if is_plain else maybe_signature(raw)
    except NOT_CELERYS as exc:
        told = f"{raw['task']!r:.100} is no signature as Celery writes it: {exc!r:.200}."
        raise place.error(BadInput(told)) from exc
    return found


def as_group(header: Any, place: Place) -> Any:
    """The header of a chord as a group: it may be a list, a generator or a signature."""
    if isinstance(header, dict):
        header = as_signature(header, place / "header")
        return header if form_of(header) == Container.GROUP else group_of([header], {})
    return group_of(header or [], {})


def group_of(tasks: Any, options: Mapping[str, Any]) -> Any:
    """Give a group of signatures, which Celery's own class would clone."""
    return Signature(
        "celery.group", (), {"tasks": tasks}, dict(options), subtask_type=Container.GROUP.value
    )


def listed(items: Any, place: Place) -> list[Any]:
    """The items of a list or a generator, whose own error is told with its place."""
    try:
        return list(items)
    except BadInput:
        raise
    except Exception as exc:  # whatever a user's generator raises
        raise place.error(BadInput(f"The generator of its tasks raised {exc!r}.")) from exc


def members_of(group: Any, place: Place) -> Iterator[Step]:
    """The members of a group, with those of groups in it at their places."""
    for number, raw in enumerate(listed(part_of(group, "tasks", place), place / "group"), start=1):
        at = place / f"member {number}"
        signature = as_signature(raw, at)
        form = form_of(signature)
        if form == Container.GROUP:
            yield from members_of(signature, at.below())
        elif form != Container.CHAIN or part_of(signature, "tasks", at):
            yield Step(signature, Given(), at)


def steps_of(chain: Any, given: Given, place: Place) -> Iterator[Step]:
    """The steps of a chain, with those of chains in it at their places."""
    found: list[Step] = []
    for number, raw in enumerate(listed(part_of(chain, "tasks", place), place / "chain"), start=1):
        at = place / f"step {number}"
        signature = as_signature(raw, at)
        if form_of(signature) == Container.CHAIN:
            found += steps_of(signature, Given(), at.below())
        else:
            found.append(Step(signature, Given(), at))
    errbacks = joined(callbacks_in(chain, "link_error"), given.errbacks)
    found = [
        replace(step, given=replace(step.given, errbacks=joined(step.given.errbacks, errbacks)))
        for step in found
    ]
    if found:
        own = tuple(chain.args) if chain.immutable else (*given.args, *chain.args)
        kwargs = {**added_kwargs(chain), **given.kwargs}
        options = {**handed_on(chain.options), **given.options}
        found[0] = found[0].begun_with(own, kwargs, options)
        links = joined(callbacks_in(chain, "link"), given.links)
        task_id = chain.options.get("task_id") or given.task_id
        found[-1] = found[-1].ended_with(links, task_id)
    yield from found


def unrolled(steps: Sequence[Step], *, keeps_last: bool = False) -> list[Step]:
    """The steps of a chain as Celery runs them: a group of one is its member, an empty one none.

    What the chain gives to a step that falls away, its neighbour gets. `keeps_last`: the last
    step stays as it is.
    """
    full: list[Step] = []
    last = steps[-1] if steps and keeps_last else None
    for step in steps:
        if form_of(step.signature) == Container.GROUP and step is not last:
            members = listed(part_of(step.signature, "tasks", step.place), step.place)
            if len(members) == 1:
                step = replace(step, signature=as_signature(members[0], step.place))
                if form_of(step.signature) == Container.CHAIN:
                    full += steps_of(step.signature, step.given, step.place.below())
                    continue
            elif not members:
                step = replace(step, signature=group_of([], {}))
        full.append(step)
    kept = [step for step in full if step is last or not is_empty_group(step.signature)]
    if not kept:
        return full[:1]
    if kept[0] is not full[0]:
        lost = full[0].given
        kept[0] = kept[0].begun_with(lost.args, lost.kwargs, lost.options)
    if kept[-1] is not full[-1]:
        lost = full[-1].given
        kept[-1] = kept[-1].ended_with(lost.links, lost.task_id)
    return kept


def is_empty_group(signature: Any) -> bool:
    """Tell whether a signature is a group that is known to have no member."""
    tasks = signature.kwargs.get("tasks")
    return form_of(signature) == Container.GROUP and isinstance(tasks, (list, tuple)) and not tasks


def ends_in_group(signature: Any) -> bool:
    """Tell whether a signature is a chain whose last step is a group."""
    if form_of(signature) != Container.CHAIN:
        return False
    tasks = signature.kwargs["tasks"]
    return bool(tasks) and form_of(tasks[-1]) == Container.GROUP


def part_of(canvas: Any, name: str, place: Place) -> Any:
    """Give what a canvas is made of, which those that were JSON may lack."""
    try:
        return canvas.kwargs[name]
    except KeyError:
        told = f"{canvas['task']} has no {name}; make it by Celery's class."
        raise place.error(BadInput(told)) from None
