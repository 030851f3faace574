"""The engine's four steps on paper, and every order in which they can happen.

A parent with two children, a third that is added from outside while they run, two workers and
a sweeper. Each step below is one statement or one commit of the real thing; between any two of
them any other process may act, a worker may die, a message may be lost, and any message,
however old or forged, may be delivered. `explore.py` walks through all states there are.

What is left out: the order of siblings, retries and timers, which have no race of their own
with the join.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

CHILDREN, WORKERS, SWEEPER = 3, 2, 2
ABSENT, QUEUED, RUNNING, DONE = "absent", "queued", "running", "done"
Step = tuple[str, ...]
Message = tuple[int, int]
"""Child and attempt: all that a message says."""


class Child(NamedTuple):
    """A child's row, and for the check how often which attempt was accepted."""

    status: str = QUEUED
    attempt: int = 0
    accepted: tuple[int, ...] = ()


class Process(NamedTuple):
    """Where a worker or the sweeper stands, and what it has in its memory."""

    at: str = "idle"
    child: int = -1
    attempt: int = 0
    seen: int = 0


class State(NamedTuple):
    """Everything: rows, messages, processes, and what may still go wrong."""

    children: tuple[Child, ...]
    joined: int
    next_seq: int
    messages: frozenset[Message]
    processes: tuple[Process, ...]
    deaths: int
    zombies: int


@dataclass(frozen=True)
class Design:
    """The design, or one with a planted error."""

    looks_after_commit: bool = True
    guards_next_seq: bool = True
    fences: bool = True
    sweeps_leases: bool = True
    sweeps_messages: bool = True
    sweeps_parents: bool = True
    guards_expiry: bool = True


@dataclass(frozen=True)
class World:
    """What may happen besides the design."""

    deaths: int = 2
    zombies: int = 1
    """Leases that run out although their worker lives."""
    strays: bool = True
    """Messages get lost; old and forged ones arrive."""
    sweeper: bool = True
    addition: bool = True


class Move(NamedTuple):
    """One step, and whether it is one that the system takes by itself."""

    name: str
    state: State
    is_fair: bool


def begin(world: World) -> State:
    """The parent's handler has just been recorded, and its children published."""
    children = (Child(), Child(), Child(ABSENT if world.addition else DONE))
    messages = frozenset({(0, 1), (1, 1)})
    processes = (Process(),) * (WORKERS + 1)
    return State(children, 0, 2, messages, processes, world.deaths, world.zombies)


def moves(state: State, design: Design, world: World) -> Iterator[Move]:
    """Every step that some process, or an accident, can take next."""
    for index in range(WORKERS):
        yield from _worker(state, index, design, world)
    if world.sweeper:
        yield from _sweeper(state, design)
    yield from _accidents(state, world)
    if world.addition and state.children[2].status == ABSENT and not state.joined:
        # add_child: one transaction under the parent's row lock.
        added = _with_child(state, 2, Child())._replace(next_seq=state.next_seq + 1)
        yield Move("add child", _send(added, 2, 1), is_fair=True)


def _worker(state: State, index: int, design: Design, world: World) -> Iterator[Move]:
    process = state.processes[index]
    child = state.children[process.child]
    name = f"worker {index}"
    match process.at:
        case "idle":
            for message in state.messages:
                taken = state._replace(messages=state.messages - {message})
                yield Move(f"{name} takes {message}", _claim(taken, index, message), True)
            for message in _strays(state) if world.strays else ():
                yield Move(f"{name} gets stray {message}", _claim(state, index, message), False)
        case "run" if not _is_locked(state, process.child):
            is_current = child.attempt == process.attempt or not design.fences
            if child.status == RUNNING and is_current:
                at = "commit" if design.looks_after_commit else "look inside"
                yield Move(f"{name} writes", _put(state, index, process._replace(at=at)), True)
            elif process.attempt in child.accepted:
                # Written before, but the answer was lost: go on as if nothing had been.
                yield Move(f"{name} finds", _put(state, index, process._replace(at="look")), True)
            else:
                yield Move(f"{name} is stale", _put(state, index, Process()), True)
        case "look inside":
            others = [c for i, c in enumerate(state.children) if i != process.child]
            seen = -1 if any(is_open(c) for c in others) else state.next_seq
            after = process._replace(at="commit", seen=seen)
            yield Move(f"{name} looks inside", _put(state, index, after), True)
        case "commit":
            yield from _commit(state, index, design, name)
        case "look" | "join":
            yield from _look_and_join(state, index, design, name)


def _claim(state: State, index: int, message: Message) -> State:
    """One statement, and nothing in memory before it: taking and claiming are one step."""
    child = state.children[message[0]]
    if child.status != QUEUED or child.attempt != message[1] - 1:
        return state
    claimed = _with_child(state, message[0], child._replace(status=RUNNING, attempt=message[1]))
    return _put(claimed, index, Process("run", *message))


def _strays(state: State) -> Iterator[Message]:
    """Messages that are old, doubled or forged: no other could be claimed."""
    for index, child in enumerate(state.children):
        if child.status == QUEUED and (index, child.attempt + 1) not in state.messages:
            yield index, child.attempt + 1


def _commit(state: State, index: int, design: Design, name: str) -> Iterator[Move]:
    process = state.processes[index]
    child = state.children[process.child]
    accepted = (*child.accepted, process.attempt)
    done = _with_child(state, process.child, child._replace(status=DONE, accepted=accepted))
    if design.looks_after_commit:
        yield Move(f"{name} commits", _put(done, index, process._replace(at="look")), True)
        yield Move(f"{name} hears no answer", _put(done, index, process._replace(at="run")), False)
        return
    if process.seen == done.next_seq and not done.joined:
        done = done._replace(joined=1)
    yield Move(f"{name} commits", _put(done, index, Process()), True)


def _look_and_join(state: State, index: int, design: Design, name: str) -> Iterator[Move]:
    process = state.processes[index]
    if process.at == "look":
        must_wait = state.joined or any(is_open(child) for child in state.children)
        after = Process() if must_wait else Process("join", seen=state.next_seq)
        yield Move(f"{name} looks", _put(state, index, after), True)
    elif state.joined and design.guards_next_seq:
        yield Move(f"{name} comes second", _put(state, index, Process()), True)
    elif process.seen == state.next_seq or not design.guards_next_seq:
        joined = state._replace(joined=state.joined + 1)
        yield Move(f"{name} joins", _put(joined, index, Process()), True)
    else:
        yield Move(f"{name} looks again", _put(state, index, Process("look")), True)


def _sweeper(state: State, design: Design) -> Iterator[Move]:
    process = state.processes[SWEEPER]
    if process.at in {"look", "join"}:
        yield from _look_and_join(state, SWEEPER, design, "sweeper")
        return
    if process.at == "expire":
        if not _is_locked(state, process.child):
            yield Move("sweeper queues blindly", _queue_again(state, process.child), True)
        return
    for index, child in enumerate(state.children):
        if design.sweeps_leases and _is_expired(state, index) and not _is_locked(state, index):
            if design.guards_expiry:
                yield Move(f"sweeper queues {index}", _queue_again(state, index), True)
            else:
                seen = _put(state, SWEEPER, Process("expire", index))
                yield Move(f"sweeper sees {index}", seen, True)
        message = (index, child.attempt + 1)
        if design.sweeps_messages and child.status == QUEUED and message not in state.messages:
            yield Move(f"sweeper publishes {index}", _send(state, *message), True)
    if design.sweeps_parents and not state.joined and not any(map(is_open, state.children)):
        yield Move("sweeper looks", _put(state, SWEEPER, Process("look")), True)


def _queue_again(state: State, index: int) -> State:
    child = state.children[index]
    lives = any(
        p.at == "run" and p.child == index and p.attempt == child.attempt for p in state.processes
    )
    queued = _with_child(state, index, child._replace(status=QUEUED))
    queued = _put(queued, SWEEPER, Process())._replace(zombies=state.zombies - lives)
    return _send(queued, index, child.attempt + 1)


def _accidents(state: State, world: World) -> Iterator[Move]:
    for index, process in enumerate(state.processes):
        if process.at != "idle" and state.deaths:
            dead = _put(state, index, Process())._replace(deaths=state.deaths - 1)
            yield Move(f"process {index} dies", dead, False)
    if not world.strays:
        return
    for message in state.messages:
        lost = state._replace(messages=state.messages - {message})
        yield Move(f"{message} is lost", lost, False)


def _is_expired(state: State, index: int) -> bool:
    """A lease runs out when its worker is dead; now and then also when it is not."""
    child = state.children[index]
    holders = [
        p
        for p in state.processes
        if p.child == index and p.attempt == child.attempt and p.at != "idle"
    ]
    return child.status == RUNNING and (not holders or state.zombies > 0)


def _is_locked(state: State, index: int) -> bool:
    """Whether a transaction has written the child's row and is not committed."""
    return any(p.at in {"commit", "look inside"} and p.child == index for p in state.processes)


def is_open(child: Child) -> bool:
    return child.status not in {ABSENT, DONE}


def _with_child(state: State, index: int, child: Child) -> State:
    children = (*state.children[:index], child, *state.children[index + 1 :])
    return state._replace(children=children)


def _put(state: State, index: int, process: Process) -> State:
    processes = (*state.processes[:index], process, *state.processes[index + 1 :])
    return state._replace(processes=processes)


def _send(state: State, index: int, attempt: int) -> State:
    return state._replace(messages=state.messages | {(index, attempt)})
