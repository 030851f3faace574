"""Signatures and canvases as checked descriptions of nodes.

All input to `signal`, `spawn` and `add_child` passes here, before anything is written. A task
becomes a node, a `chain`, `group` or `chord` a container with its steps as children. Where
Celery moves arguments, options and callbacks from a canvas to its tasks when it sends them, the
same is done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from celery import Signature, Task

from backbeat_celery.exceptions import BadInput
from backbeat_celery.inputs import payload
from backbeat_celery.inputs.callbacks import Callbacks, encode_callbacks
from backbeat_celery.inputs.canvas_parts import (
    CALLBACK_OPTIONS,
    NOTHING_GIVEN,
    Given,
    Place,
    TooDeep,
    added_kwargs,
    as_group,
    as_signature,
    callbacks_in,
    ends_in_group,
    form_of,
    group_of,
    handed_on,
    joined,
    listed,
    members_of,
    part_of,
    steps_of,
    unrolled,
)
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


MOST_NODES = 100_000
"""Nodes that one canvas may have."""

MAPS: Mapping[str, str] = {"celery.map": MAP, "celery.starmap": STARMAP}

NOTHING: Mapping[str, Any] = MappingProxyType({})


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
    form = "" if isinstance(signature, Task) else _checked_form(signature)
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
        call, callbacks = compiler.call(signature, NOTHING_GIVEN), compiler.callbacks(signature)
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
        found: Signature[Any] = as_signature(dict(described), Place())
    except RecursionError:  # raised by Celery, which follows dictionaries down
        raise TooDeep from None
    return found


def _checked_form(signature: Any) -> str:
    if not isinstance(signature, Signature):
        raise BadInput(
            "Pass a task, its signature, such as task.s(...), or a canvas, "
            f"not {type(signature).__name__}."
        )
    return form_of(signature)


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
    place = Place(("rescue",))
    signature = Signature(rescue) if isinstance(rescue, str) else as_signature(rescue, place)
    if form := form_of(signature):
        raise BadInput(f"rescue is a task or its signature, not a {form}.")
    given = Given(input=Input.FAILED_ID)
    return _Compiler().step(signature, given, Mode.FIRE_AND_FORGET, place)


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
        given = Given(options={k: v for k, v in delays.items() if v is not None})
        return self.step(canvas, given, mode, Place())

    def completed(self, spec: NodeSpec, callbacks: str) -> NodeSpec:
        """The same node with what follows its end, and what was given for this call."""
        if callbacks:
            spec.options[CALLBACKS] = callbacks
        spec.options.update(self._own)
        return spec

    # Steps --------------------------------------------------------------------------------

    def step(self, raw: Any, given: Given, mode: Mode, place: Place) -> NodeSpec:
        """Describe a step with all that is below it."""
        signature, place = as_signature(raw, place), place.below()
        compilers = {
            Container.CHAIN: self._chain,
            Container.GROUP: self._group,
            Container.CHORD: self._chord,
            "chunks": self._chunks,
        }
        compiler = compilers.get(form_of(signature), self._leaf)
        return compiler(signature, given, mode, place)

    def _counted(self) -> None:
        self._count += 1
        if self._count > MOST_NODES:
            raise BadInput(f"The canvas has more than {MOST_NODES} nodes; use chunks().")

    def _leaf(self, signature: Any, given: Given, mode: Mode, place: Place) -> NodeSpec:
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

    def call(self, signature: Any, given: Given, within: Iterable[str] = ()) -> Call:
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

    def _chain(self, chain: Any, given: Given, mode: Mode, place: Place) -> NodeSpec:
        # A group at the end of what replaces a task gives its list, also that of one or none.
        gives_list = self._is_replacement and not place.names and ends_in_group(chain)
        steps = unrolled(list(steps_of(chain, given, place)), keeps_last=gives_list)
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
        given: Given,
        mode: Mode,
        place: Place,
    ) -> NodeSpec:
        options = {**handed_on(group.options), **given.options}
        task_id = group.options.get("task_id") or given.task_id
        common = replace(
            given,
            input=_passed_on(given.input),
            args=(*given.args, *group.args),
            kwargs={**added_kwargs(group), **given.kwargs},
            options=options,
            links=(),
            errbacks=joined(callbacks_in(group, "link_error"), given.errbacks),
            task_id=None,
        )
        members = list(members_of(group, place))
        is_sent = not place.names and not self._is_replacement
        if is_sent and len(members) == 1 and ends_in_group(members[0].signature):
            (only,) = members
            common = replace(common, input=given.input, task_id=task_id)
            return self.step(only.signature, common, mode, only.place)
        self._counted()
        links = tuple(
            as_signature(link, place).clone().set(immutable=True)
            for link in joined(callbacks_in(group, "link"), given.links)
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

    def _chord(self, chord: Any, given: Given, mode: Mode, place: Place) -> NodeSpec:
        raw_header, raw_body = chord.kwargs.get("header"), chord.kwargs.get("body")
        of_header = chord.kwargs.get("kwargs") or {}
        if raw_body is None:
            raise place.error(BadInput("A chord has no body: chord(header)(body)."))
        if not isinstance(of_header, dict):
            raise place.error(BadInput(f"The kwargs of a chord are {quote(of_header)}."))
        self._counted()
        options = {**handed_on(chord.options), **given.options}
        body = as_signature(raw_body, place / "body")
        header = self._header(
            as_group(raw_header, place),
            replace(
                given,
                input=_passed_on(given.input),
                args=(*given.args, *chord.args),
                kwargs={
                    **of_header,
                    **added_kwargs(chord),
                    **given.kwargs,
                },
                options=options,
                links=(),
                task_id=None,
            ),
            place / "header",
        )
        after = Given(
            input=Input.PREVIOUS,
            options={k: v for k, v in options.items() if k not in TIME_OPTIONS},
            links=joined(callbacks_in(chord, "link"), given.links),
            errbacks=joined(given.errbacks, callbacks_in(chord, "link_error")),
            task_id=chord.options.get("task_id") or given.task_id,
        )
        children = [header, self.step(body, after, Mode.BLOCKING, place / "body")]
        return _container(Container.CHORD, children, given, mode, Yields.LAST)

    def _header(self, header: Any, given: Given, place: Place) -> NodeSpec:
        """The header of a chord. Error callbacks of what is around are its body's.

        As in Celery the tasks of the header have them, too, if the app's setting says so, and
        chords among them always.
        """
        self._counted()
        allowed = app_in_use().conf.task_allow_error_cb_on_chord_header
        options = {**handed_on(header.options), **given.options}
        own = callbacks_in(header, "link_error")
        children = []
        for member in members_of(header, place):
            errbacks = given.errbacks if allowed else ()
            if form_of(member.signature) == Container.CHORD:
                errbacks = given.errbacks
            children.append(
                self.step(
                    member.signature,
                    replace(given, options=options, errbacks=joined(own, errbacks)),
                    Mode.NON_BLOCKING,
                    member.place,
                )
            )
        spec = _container(Container.GROUP, children, given, Mode.BLOCKING, Yields.LIST)
        task_id = _shortened(header.options.get("task_id"))
        return replace(spec, name="header", celery_id=task_id)

    def _chunks(self, chunks: Any, given: Given, mode: Mode, place: Place) -> NodeSpec:
        task, it, size = (part_of(chunks, name, place) for name in ("task", "it", "n"))
        if not isinstance(size, int) or size < 1:
            raise place.error(BadInput(f"chunks() takes a size of at least 1, not {size!r}."))
        items = listed(it, place)
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
        return self._group(group_of(members, dict(chunks.options)), given, mode, place)

    # Callbacks ----------------------------------------------------------------------------

    def callbacks(self, signature: Any, given: Given = NOTHING_GIVEN) -> str:
        """What is called when a task succeeds or fails, as the text that its node keeps."""
        links = joined(callbacks_in(signature, "link"), given.links)
        errbacks = joined(callbacks_in(signature, "link_error"), given.errbacks)
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
        place = Place((option,))
        signature = as_signature(raw, place)
        takes = _convention(signature) if takes is None else takes
        compiler = _Compiler(checks=option != "link_error")
        return compiler.step(signature, Given(input=takes), Mode.FIRE_AND_FORGET, place)


def _convention(errback: Any) -> Input:
    """What an error callback takes: as in Celery, what its parameters leave room for.

    With room for more than one argument it takes request, exception and traceback. Bound tasks
    and those that are not known here take the id of the task that failed.
    """
    task = None if form_of(errback) else known_task(str(errback.get("task")))
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


def _container(
    form: Container, children: list[NodeSpec], given: Given, mode: Mode, yields: Yields
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


def _mapped(signature: Any) -> dict[str, Any]:
    """The arguments of our task that calls another one for each item."""
    place = Place()
    mapped = as_signature(part_of(signature, "task", place), place)
    task_called(str(mapped["task"]), {})
    return {"task": str(mapped["task"]), "it": listed(part_of(signature, "it", place), place)}
