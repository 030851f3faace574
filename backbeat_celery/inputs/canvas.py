"""Signatures and canvases as checked descriptions of nodes.

All input to `signal`, `spawn` and `add_child` passes here, before anything is written. A task
becomes a node, a `chain`, `group` or `chord` a container with its steps as children. Where
Celery moves arguments, options and callbacks from a canvas to its tasks when it sends them, the
same is done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from celery import Signature, Task
from celery.canvas import maybe_signature
from celery.utils.functional import maybe_list

from backbeat_celery.exceptions import BadInput, UnsupportedOption
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.callbacks import Callbacks, encode_callbacks
from backbeat_celery.inputs.mapped_tasks import MAP, STARMAP
from backbeat_celery.inputs.message_headers import IN_CANVAS
from backbeat_celery.inputs.node_spec import (
    CALLBACKS,
    TIME_OPTIONS,
    Call,
    NodeSpec,
    call_spec,
    check_key,
    check_mode,
    check_times,
    task_called,
)
from backbeat_celery.inputs.policy import OWN
from backbeat_celery.inputs.task_options import problems_of
from backbeat_celery.inputs.task_registry import known_task
from backbeat_celery.runtime.compat.celery import (
    app_in_use,
    argument_check,
    takes_more_than,
)
from backbeat_celery.runtime.text import quote
from backbeat_celery.states import Container, Input, Mode, Yields

if TYPE_CHECKING:
    from backbeat_celery.typing import TaskOrSignature

DEEPEST = 100
"""Levels of canvases within canvases."""

MOST_NODES = 100_000
"""Nodes that one canvas may have."""

MAPS: Mapping[str, str] = {"celery.map": MAP, "celery.starmap": STARMAP}

NOTHING: Mapping[str, Any] = MappingProxyType({})

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


def task_spec(
    signature: TaskOrSignature,
    *,
    mode: Mode | str | None = None,
    barrier: bool = False,
    fires_at: datetime | None = None,
    delay: float | timedelta | None = None,
    key: str | None = None,
    metadata: dict[str, Any] | None = None,
    max_retries: int | None = None,
    rescue: Any = None,
    is_replacement: bool = False,
) -> NodeSpec:
    """Describe the node that a signature or a canvas will be, with its children.

    `max_retries` and `rescue` come before those of each task. As in Celery a group that is sent
    with one chain in it, which ends in a group, gives that one's list, unless it replaces a task.

    Raises BadInput for anything that cannot be used; in a canvas it names the place.
    """
    compiler = _Compiler(
        _own_policy(max_retries), _own_rescue(rescue), is_replacement=is_replacement
    )
    form = "" if isinstance(signature, Task) else _form_of(signature)
    if form:
        times = check_times(form, fires_at, delay, {})
        metadata = payload.check_metadata(metadata)
        try:
            spec = compiler.canvas(signature, times, check_mode(mode or Mode.BLOCKING, barrier))
        except RecursionError:  # raised by Celery, which follows dictionaries down
            raise TooDeep from None
        return replace(spec, barrier=barrier, key=check_key(key), metadata=metadata)
    if isinstance(signature, Task):
        call, callbacks = Call(signature.name, signature, [], {}, {}), compiler.callbacks({})
    else:
        call, callbacks = compiler.call(signature, _Given()), compiler.callbacks(signature)
    spec = call_spec(
        call,
        mode=mode,
        barrier=barrier,
        fires_at=fires_at,
        delay=delay,
        key=key,
        metadata=metadata,
    )
    return compiler.completed(spec, callbacks)


def signature_of(described: Mapping[str, Any]) -> Signature[Any]:
    """Give the signature or the canvas that was JSON, as `json.dumps(canvas)` writes it.

    Raises BadInput for what is none; what is wrong within it, `task_spec` tells.
    """
    try:
        found: Signature[Any] = _as_signature(dict(described), _Place())
    except RecursionError:  # raised by Celery, which follows dictionaries down
        raise TooDeep from None
    return found


def _form_of(signature: Any) -> str:
    if not isinstance(signature, Signature):
        raise BadInput(
            "Pass a task, its signature, such as task.s(...), or a canvas, "
            f"not {type(signature).__name__}."
        )
    return _form(signature)


def _own_policy(max_retries: int | None) -> dict[str, Any]:
    """What is given for a call and not for its task, as its node keeps it."""
    if max_retries is None:
        return {}
    if problems_of("", {"max_retries": max_retries}):
        raise BadInput(
            f"max_retries is {quote(max_retries)}, but must be a whole number from 0 on, or None "
            "for what the task says."
        )
    return {OWN: {"max_retries": max_retries}}


def _own_rescue(rescue: Any) -> NodeSpec | None:
    """Describe the rescue of one call: a task, its name or its signature.

    It takes the failed node's id first, unless the signature is immutable.
    """
    if rescue is None:
        return None
    place = _Place(("rescue",))
    signature = Signature(rescue) if isinstance(rescue, str) else _as_signature(rescue, place)
    if form := _form(signature):
        raise BadInput(f"rescue is a task or its signature, not a {form}.")
    given = _Given(input=Input.FAILED_ID)
    return _Compiler().step(signature, given, Mode.FIRE_AND_FORGET, place)


class TooDeep(BadInput):
    """A canvas within so many others."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or f"The canvas is nested more than {DEEPEST} levels deep.")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a canvas a step is, for errors."""

    names: tuple[str, ...] = ()
    depth: int = 0

    def __truediv__(self, name: str) -> _Place:
        return _Place((*self.names, name), self.depth)

    def below(self) -> _Place:
        """The same place, one level of canvases deeper."""
        if self.depth >= DEEPEST:
            raise self.error(TooDeep())
        return _Place(self.names, self.depth + 1)

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
class _Given:
    """What a step gets from the canvas around it."""

    input: Input = Input.NONE
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    links: tuple[Any, ...] = ()
    errbacks: tuple[Any, ...] = ()
    task_id: str | None = None
    """Chosen for a canvas, whose value is this step's; an id of the step's own comes before."""


def _form(signature: Any) -> str:
    """The form of a canvas; empty for the call of one task."""
    kind: str = signature.get("subtask_type") or ""
    if not kind and str(signature.get("task", "")).startswith("celery."):
        kind = str(signature["task"]).removeprefix("celery.")
    return kind if kind in FORMS else ""


def _callbacks_of(signature: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    return tuple(maybe_list((signature.get("options") or {}).get(name)) or ())


def _joined(*callbacks: Iterable[Any]) -> tuple[Any, ...]:
    """Callbacks in order, each once, as Celery adds them."""
    found: list[Any] = []
    for callback in (one for some in callbacks for one in some):
        if callback not in found:
            found.append(callback)
    return tuple(found)


def _added_kwargs(canvas: Any) -> dict[str, Any]:
    """Keyword arguments that were given to a canvas itself, as by `clone()`, for its tasks."""
    return {k: v for k, v in canvas.kwargs.items() if k not in PARTS}


def _handed_on(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k not in OF_THE_CANVAS and v is not None}


class _Compiler:
    """Compiles one canvas."""

    def __init__(
        self,
        own: Mapping[str, Any] = NOTHING,
        rescue: NodeSpec | None = None,
        *,
        checks: bool = True,
        is_replacement: bool = False,
    ) -> None:
        self._own = own
        self._is_replacement = is_replacement
        self._checks = checks
        """Whether a call with wrong arguments is refused. An error callback's fails by itself,
        as in Celery, where many are written so that they only work by chance."""
        self._rescue = rescue
        self._count = 0
        self._known: dict[tuple[int, ...], str] = {}
        self._alive: list[Any] = []
        """Signatures whose ids are keys."""

    def canvas(
        self, canvas: Any, times: tuple[datetime | None, float | None], mode: Mode
    ) -> NodeSpec:
        """Describe a whole canvas, whose first tasks start at that time."""
        eta, countdown = times
        delays = {"eta": eta} if eta is not None else {"countdown": countdown}
        given = _Given(options={k: v for k, v in delays.items() if v is not None})
        return self.step(canvas, given, mode, _Place())

    def completed(self, spec: NodeSpec, callbacks: str) -> NodeSpec:
        """The same node with what follows its end, and what was given for this call."""
        if callbacks:
            spec.options[CALLBACKS] = callbacks
        spec.options.update(self._own)
        return spec

    # Steps --------------------------------------------------------------------------------

    def step(self, raw: Any, given: _Given, mode: Mode, place: _Place) -> NodeSpec:
        """Describe a step with all that is below it."""
        signature, place = _as_signature(raw, place), place.below()
        compilers = {
            Container.CHAIN: self._chain,
            Container.GROUP: self._group,
            Container.CHORD: self._chord,
            "chunks": self._chunks,
        }
        compiler = compilers.get(_form(signature), self._leaf)
        return compiler(signature, given, mode, place)

    def _counted(self) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            raise BadInput(f"The canvas has more than {MOST_NODES} nodes; use chunks().")

    def _leaf(self, signature: Any, given: _Given, mode: Mode, place: _Place) -> NodeSpec:
        self._counted()
        try:
            call = self.call(signature, given, within=("chord", "chain"))
            takes = given.input if call.given else Input.NONE
            spec = call_spec(call, mode=mode, from_turn=True)
            callbacks = self.callbacks(signature, given)
        except BadInput as exc:
            raise (place / str(signature.get("task"))).error(exc) from exc
        spec.options[IN_CANVAS] = True
        return self.completed(replace(spec, input=takes), callbacks)

    def call(self, signature: Any, given: _Given, within: Iterable[str] = ()) -> Call:
        """Take a signature of one task apart, and add what is given to it.

        `within` are options of a canvas that was frozen, which are not this task's own.
        """
        options = {k: v for k, v in signature.options.items() if k not in CALLBACK_OPTIONS}
        options |= {
            k: v for k, v in given.options.items() if k not in options.get("stamped_headers", ())
        }
        for part in within:
            options.pop(part, None)
        if given.task_id is not None:
            options.setdefault("task_id", given.task_id)
        name = str(signature.get("task"))
        if name in MAPS:
            kwargs = _mapped(signature)
            return Call(MAPS[name], task_called(MAPS[name], options), [], kwargs, options)
        task = task_called(name, options)
        args, kwargs = list(signature.args or ()), dict(signature.kwargs or {})
        if not signature.immutable:
            args, kwargs = [*given.args, *args], {**kwargs, **given.kwargs}
        count = 0 if signature.immutable else given.input.arguments
        return Call(name, task, args, kwargs, options, count, self._checks)

    def _chain(self, chain: Any, given: _Given, mode: Mode, place: _Place) -> NodeSpec:
        steps = _unrolled(list(_steps(chain, given, place)))
        if len(steps) == 1:
            (only,) = steps
            return self.step(
                only.signature, replace(only.given, input=given.input), mode, only.place
            )
        self._counted()
        children = [
            self.step(
                step.signature,
                replace(step.given, input=Input.PREVIOUS if i else _passed_on(given.input)),
                Mode.BLOCKING,
                step.place,
            )
            for i, step in enumerate(steps)
        ]
        return _container(Container.CHAIN, children, given, mode, Yields.LAST)

    def _group(
        self,
        group: Any,
        given: _Given,
        mode: Mode,
        place: _Place,
    ) -> NodeSpec:
        options = {**_handed_on(group.options), **given.options}
        task_id = group.options.get("task_id") or given.task_id
        common = replace(
            given,
            input=_passed_on(given.input),
            args=(*given.args, *group.args),
            kwargs={**_added_kwargs(group), **given.kwargs},
            options=options,
            links=(),
            errbacks=_joined(_callbacks_of(group, "link_error"), given.errbacks),
            task_id=None,
        )
        members = list(_members(group, place))
        is_sent = not place.names and not self._is_replacement
        if is_sent and len(members) == 1 and _ends_in_group(members[0].signature):
            (only,) = members
            common = replace(common, input=given.input, task_id=task_id)
            return self.step(only.signature, common, mode, only.place)
        self._counted()
        links = tuple(
            _as_signature(link, place).clone().set(immutable=True)
            for link in _joined(_callbacks_of(group, "link"), given.links)
        )
        children = [
            self.step(
                member.signature,
                replace(common, links=() if i else links),
                Mode.NON_BLOCKING,
                member.place,
            )
            for i, member in enumerate(members)
        ]
        spec = _container(Container.GROUP, children, given, mode, Yields.LIST)
        return replace(spec, celery_id=_shortened(task_id))

    def _chord(self, chord: Any, given: _Given, mode: Mode, place: _Place) -> NodeSpec:
        raw_header, raw_body = chord.kwargs.get("header"), chord.kwargs.get("body")
        of_header = chord.kwargs.get("kwargs") or {}
        if raw_body is None:
            raise place.error(BadInput("A chord has no body: chord(header)(body)."))
        if not isinstance(of_header, dict):
            raise place.error(BadInput(f"The kwargs of a chord are {quote(of_header)}."))
        self._counted()
        options = {**_handed_on(chord.options), **given.options}
        body = _as_signature(raw_body, place / "body")
        header = self._header(
            _as_group(raw_header, place),
            replace(
                given,
                input=_passed_on(given.input),
                args=(*given.args, *chord.args),
                kwargs={
                    **of_header,
                    **_added_kwargs(chord),
                    **given.kwargs,
                },
                options=options,
                links=(),
                task_id=None,
            ),
            place / "header",
        )
        after = _Given(
            input=Input.PREVIOUS,
            options={k: v for k, v in options.items() if k not in TIME_OPTIONS},
            links=_joined(_callbacks_of(chord, "link"), given.links),
            errbacks=_joined(given.errbacks, _callbacks_of(chord, "link_error")),
            task_id=chord.options.get("task_id") or given.task_id,
        )
        children = [header, self.step(body, after, Mode.BLOCKING, place / "body")]
        return _container(Container.CHORD, children, given, mode, Yields.LAST)

    def _header(self, header: Any, given: _Given, place: _Place) -> NodeSpec:
        """The header of a chord. Error callbacks of what is around are its body's.

        As in Celery the tasks of the header have them, too, if the app's setting says so, and
        chords among them always.
        """
        self._counted()
        allowed = app_in_use().conf.task_allow_error_cb_on_chord_header
        options = {**_handed_on(header.options), **given.options}
        own = _callbacks_of(header, "link_error")
        children = []
        for member in _members(header, place):
            errbacks = given.errbacks if allowed else ()
            if _form(member.signature) == Container.CHORD:
                errbacks = given.errbacks
            children.append(
                self.step(
                    member.signature,
                    replace(given, options=options, errbacks=_joined(own, errbacks)),
                    Mode.NON_BLOCKING,
                    member.place,
                )
            )
        spec = _container(Container.GROUP, children, given, Mode.BLOCKING, Yields.LIST)
        task_id = _shortened(header.options.get("task_id"))
        return replace(spec, name="header", celery_id=task_id)

    def _chunks(self, chunks: Any, given: _Given, mode: Mode, place: _Place) -> NodeSpec:
        task, it, size = (_part(chunks, name, place) for name in ("task", "it", "n"))
        if not isinstance(size, int) or size < 1:
            raise place.error(BadInput(f"chunks() takes a size of at least 1, not {size!r}."))
        items = _listed(it, place)
        app = app_in_use()
        members = [
            Signature(
                "celery.starmap",
                (),
                {"task": task, "it": items[first : first + size]},
                app=app,
                immutable=True,
            )
            for first in range(0, len(items), size)
        ]
        return self._group(_group_of(members, dict(chunks.options)), given, mode, place)

    # Callbacks ----------------------------------------------------------------------------

    def callbacks(self, signature: Any, given: _Given = _Given()) -> str:
        """What is called when a task succeeds or fails, as the text that its node keeps."""
        links = _joined(_callbacks_of(signature, "link"), given.links)
        errbacks = _joined(_callbacks_of(signature, "link_error"), given.errbacks)
        if not links and not errbacks and self._rescue is None:
            return ""
        key = (len(links), *map(id, links), *map(id, errbacks))
        if key not in self._known:
            self._alive += [*links, *errbacks]
            self._known[key] = encode_callbacks(
                Callbacks(
                    [self._callback(link, Input.PARENT, "link") for link in links],
                    [self._callback(errback, None, "link_error") for errback in errbacks],
                    self._rescue,
                )
            )
        return self._known[key]

    def _callback(self, raw: Any, takes: Input | None, option: str) -> NodeSpec:
        place = _Place((option,))
        signature = _as_signature(raw, place)
        takes = _convention(signature) if takes is None else takes
        compiler = _Compiler(checks=option != "link_error")
        return compiler.step(signature, _Given(input=takes), Mode.FIRE_AND_FORGET, place)


def _convention(errback: Any) -> Input:
    """What an error callback takes: as in Celery, what its parameters leave room for.

    With room for more than one argument it takes request, exception and traceback. Bound tasks
    and those that are not known here take the id of the task that failed.
    """
    task = None if _form(errback) else known_task(str(errback.get("task")))
    header = argument_check(task)
    if header is None or isinstance(header, partial):
        return Input.FAILED_ID
    stored = errback.immutable is False and (errback.args or errback.kwargs)
    if stored:
        try:
            bound = partial(header, *errback.args, **errback.kwargs)
            return Input.FAILURE if takes_more_than(bound, 1) else Input.FAILED_ID
        except (TypeError, ValueError):
            pass
    return Input.FAILURE if takes_more_than(header, 1) else Input.FAILED_ID


# Parts of canvases ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a chain or one member of a group."""

    signature: Any
    given: _Given
    place: _Place

    def begun_with(
        self, args: Iterable[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> _Step:
        """The same step, which gets what is given to the beginning of its chain."""
        given = replace(
            self.given,
            args=(*args, *self.given.args),
            kwargs={**self.given.kwargs, **kwargs},
            options={**self.given.options, **options},
        )
        return replace(self, given=given)

    def ended_with(self, links: Iterable[Any], task_id: str | None) -> _Step:
        """The same step, which gets what follows the end of its chain."""
        given = replace(
            self.given,
            links=_joined(self.given.links, links),
            task_id=self.given.task_id or task_id,
        )
        return replace(self, given=given)


def _container(
    form: Container, children: list[NodeSpec], given: _Given, mode: Mode, yields: Yields
) -> NodeSpec:
    first = children[:1] if form != Container.GROUP else children
    takes = any(child.input != Input.NONE for child in first)
    return NodeSpec(
        task="",
        name=form.value,
        mode=mode,
        container=form.value,
        input=given.input if takes else Input.NONE,
        yields=yields,
        children=children,
    )


def _shortened(task_id: Any) -> str | None:
    """The id of a group, as a row can keep it."""
    return None if task_id is None else str(task_id)[:255]


def _passed_on(given: Input) -> Input:
    """What the first steps of a container take, if it is given something."""
    return Input.NONE if given == Input.NONE else Input.PARENT


def _as_signature(raw: Any, place: _Place) -> Any:
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
    is_plain = type(raw) in {dict, Signature} and _form(raw)
    try:
        found: Any = Signature.from_dict(dict(raw)) if is_plain else maybe_signature(raw)
    except NOT_CELERYS as exc:
        told = f"{raw['task']!r:.100} is no signature as Celery writes it: {exc!r:.200}."
        raise place.error(BadInput(told)) from exc
    return found


def _as_group(header: Any, place: _Place) -> Any:
    """The header of a chord as a group: it may be a list, a generator or a signature."""
    if isinstance(header, dict):
        header = _as_signature(header, place / "header")
        return header if _form(header) == Container.GROUP else _group_of([header], {})
    return _group_of(header or [], {})


def _group_of(tasks: Any, options: Mapping[str, Any]) -> Any:
    return Signature(
        "celery.group", (), {"tasks": tasks}, dict(options), subtask_type=Container.GROUP.value
    )


def _listed(items: Any, place: _Place) -> list[Any]:
    """The items of a list or a generator, whose own error is told with its place."""
    try:
        return list(items)
    except BadInput:
        raise
    except Exception as exc:  # whatever a user's generator raises
        raise place.error(BadInput(f"The generator of its tasks raised {exc!r}.")) from exc


def _members(group: Any, place: _Place) -> Iterator[_Step]:
    """The members of a group, with those of groups in it at their places."""
    for number, raw in enumerate(_listed(_part(group, "tasks", place), place / "group"), start=1):
        at = place / f"member {number}"
        signature = _as_signature(raw, at)
        form = _form(signature)
        if form == Container.GROUP:
            yield from _members(signature, at.below())
        elif form != Container.CHAIN or _part(signature, "tasks", at):
            yield _Step(signature, _Given(), at)


def _steps(chain: Any, given: _Given, place: _Place) -> Iterator[_Step]:
    """The steps of a chain, with those of chains in it at their places."""
    found: list[_Step] = []
    for number, raw in enumerate(_listed(_part(chain, "tasks", place), place / "chain"), start=1):
        at = place / f"step {number}"
        signature = _as_signature(raw, at)
        if _form(signature) == Container.CHAIN:
            found += _steps(signature, _Given(), at.below())
        else:
            found.append(_Step(signature, _Given(), at))
    errbacks = _joined(_callbacks_of(chain, "link_error"), given.errbacks)
    found = [
        replace(step, given=replace(step.given, errbacks=_joined(step.given.errbacks, errbacks)))
        for step in found
    ]
    if found:
        own = tuple(chain.args) if chain.immutable else (*given.args, *chain.args)
        kwargs = {**_added_kwargs(chain), **given.kwargs}
        options = {**_handed_on(chain.options), **given.options}
        found[0] = found[0].begun_with(own, kwargs, options)
        links = _joined(_callbacks_of(chain, "link"), given.links)
        task_id = chain.options.get("task_id") or given.task_id
        found[-1] = found[-1].ended_with(links, task_id)
    yield from found


def _unrolled(steps: Sequence[_Step]) -> list[_Step]:
    """The steps of a chain as Celery runs them: a group of one is its member, an empty one none.

    What the chain gives to a step that falls away, its neighbour gets.
    """
    full: list[_Step] = []
    for step in steps:
        if _form(step.signature) == Container.GROUP:
            members = _listed(_part(step.signature, "tasks", step.place), step.place)
            if len(members) == 1:
                step = replace(step, signature=_as_signature(members[0], step.place))
                if _form(step.signature) == Container.CHAIN:
                    full += _steps(step.signature, step.given, step.place.below())
                    continue
            elif not members:
                step = replace(step, signature=_group_of([], {}))
        full.append(step)
    kept = [step for step in full if not _is_empty_group(step.signature)]
    if not kept:
        return full[:1]
    if kept[0] is not full[0]:
        lost = full[0].given
        kept[0] = kept[0].begun_with(lost.args, lost.kwargs, lost.options)
    if kept[-1] is not full[-1]:
        lost = full[-1].given
        kept[-1] = kept[-1].ended_with(lost.links, lost.task_id)
    return kept


def _is_empty_group(signature: Any) -> bool:
    tasks = signature.kwargs.get("tasks")
    return _form(signature) == Container.GROUP and isinstance(tasks, (list, tuple)) and not tasks


def _ends_in_group(signature: Any) -> bool:
    if _form(signature) != Container.CHAIN:
        return False
    tasks = signature.kwargs["tasks"]
    return bool(tasks) and _form(tasks[-1]) == Container.GROUP


def _mapped(signature: Any) -> dict[str, Any]:
    """The arguments of our task that calls another one for each item."""
    place = _Place()
    mapped = _as_signature(_part(signature, "task", place), place)
    task_called(str(mapped["task"]), {})
    return {"task": str(mapped["task"]), "it": _listed(_part(signature, "it", place), place)}


def _part(canvas: Any, name: str, place: _Place) -> Any:
    try:
        return canvas.kwargs[name]
    except KeyError:
        told = f"{canvas['task']} has no {name}; make it by Celery's class."
        raise place.error(BadInput(told)) from None
