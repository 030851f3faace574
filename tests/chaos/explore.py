"""Walk through every state of the model there is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tests.chaos.model import (
    SWEEPER,
    WORKERS,
    Design,
    Message,
    Process,
    State,
    World,
    begin,
    is_open,
    moves,
)


@dataclass
class Findings:
    """What `explore` found out."""

    states: int = 0
    broken: list[tuple[str, list[str]]] = field(default_factory=list)
    """Each broken promise with the shortest way there."""

    @property
    def promises(self) -> set[str]:
        return {promise for promise, _ in self.broken}


def broken_promise(state: State) -> str:
    """What must never be, in any state."""
    if state.joined > 1:
        return "joined twice"
    if state.joined and any(is_open(child) for child in state.children):
        return "joined before the last child"
    for child in state.children:
        if len(child.accepted) > 1:
            return "accepted twice"
        if child.accepted and child.accepted != (child.attempt,):
            return "accepted an attempt that was fenced off"
    return ""


def explore(design: Design, world: World) -> Findings:
    """Walk through every reachable state; look for broken promises and for dead ends."""
    first = begin(world)
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    fair_back: dict[State, list[State]] = {}
    findings = Findings()
    pending = deque([first])
    while pending:
        state = pending.popleft()
        promise = broken_promise(state)
        if promise and promise not in findings.promises:
            findings.broken.append((promise, _way(came_from, state)))
        if promise:
            continue  # what follows from that tells nothing
        for name, following, is_fair in moves(state, design, world):
            following = _usual(following)
            if is_fair:
                fair_back.setdefault(following, []).append(state)
            if following not in came_from:
                came_from[following] = (state, name)
                pending.append(following)
    findings.states = len(came_from)
    stuck = _stuck(came_from, fair_back)
    if stuck is not None:
        findings.broken.append(("stuck", _way(came_from, stuck)))
    return findings


def _usual(state: State) -> State:
    """One state for all that differ in which of two equal workers or children is which."""
    one, two, sweeper = state.processes
    if one > two:
        state = state._replace(processes=(two, one, sweeper))
    if state.children[0] > state.children[1]:
        state = _swapped(state)
    elif state.children[0] == state.children[1]:
        state = min(state, _swapped(state), key=_order)
    return state


def _swapped(state: State) -> State:
    """The same with the first two children exchanged."""
    other = {0: 1, 1: 0}
    one, two, *rest = state.children
    processes = tuple(p._replace(child=other.get(p.child, p.child)) for p in state.processes)
    messages = frozenset((other.get(child, child), n) for child, n in state.messages)
    return state._replace(
        children=(two, one, *rest),
        processes=(*sorted(processes[:WORKERS]), processes[SWEEPER]),
        messages=messages,
    )


def _order(state: State) -> tuple[tuple[Process, ...], list[Message]]:
    return state.processes, sorted(state.messages)


def _stuck(
    came_from: dict[State, tuple[State, str] | None], fair_back: dict[State, list[State]]
) -> State | None:
    """The first state from which no fair steps lead to the join."""
    good = {state for state in came_from if state.joined}
    pending = deque(good)
    while pending:
        for before in fair_back.get(pending.popleft(), []):
            if before not in good:
                good.add(before)
                pending.append(before)
    bad = (s for s in came_from if s not in good and not broken_promise(s))
    return next(bad, None)


def _way(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    way: list[str] = []
    step = came_from[state]
    while step is not None:
        state, name = step
        way.append(name)
        step = came_from[state]
    return way[::-1]
