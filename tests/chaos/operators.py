"""Operators: verbs on random nodes at random moments, as people at the admin would call them.

Whether a verb is allowed is known only to the row at that moment: one that is refused is tried
again on another node. When its answer is lost it is called again; refused then, it was done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from tests.chaos.arena import Arena, Blow
from tests.chaos.canvases import label_of
from tests.chaos.faults import fault
from tests.chaos.watch import ask, insist, plain, queued, running

SELECT = "SELECT n.id FROM backbeat_celery_node n WHERE n.parent_id IS NOT NULL AND n.status IN "
UNFINISHED = "('pending', 'ready', 'queued', 'running', 'retrying', 'paused', 'waiting')"
BUSY = "('running', 'waiting')"
LONGEST_PAUSE = 3.0
SWEEPERS, PASSES = 8, 5
BY_HAND = "by hand"
"""The result that operators resolve a failed node with."""
LONGEST_NEGLECT = 4.0
"""Seconds that a failed node waits for an operator at most."""


def results_of(verb: str) -> dict[str, Any]:
    """The result that an operator gives to a node, if the verb takes one."""
    return {"result": BY_HAND} if verb == "resolve" else {}


def pick(arena: Arena, statuses: str) -> str | None:
    """A random node with one of these statuses."""
    found = sorted(plain(node) for (node,) in ask(f"{SELECT} {statuses}"))
    return arena.rng.choice(found) if found else None


def steer(node_id: str, verb: str, *arguments: Any, **options: Any) -> bool:
    """Call a verb of a node until it is done; False if the node does not allow it."""
    from backbeat_celery.models import Node

    return _call(lambda: getattr(Node.objects.get(pk=node_id), verb)(*arguments, **options))


def _call(verb: Callable[[], Any]) -> bool:
    from backbeat_celery.exceptions import InvalidTransition, WorkflowClosed

    was_lost = False
    while True:
        try:
            verb()
        except (InvalidTransition, WorkflowClosed):
            return was_lost
        except (DatabaseError, InterfaceError):
            was_lost = True
            connections.close_all()
            time.sleep(0.1)
        else:
            return True


def _register(verb: str, statuses: str) -> None:
    @fault(verb)
    def strike(arena: Arena) -> Blow | None:
        node = pick(arena, statuses)
        given = {"by": "chaos", "reason": "at a random moment", **results_of(verb)}
        if node is None or not steer(node, verb, **given):
            return None
        return Blow(verb, [node])


for _verb, _statuses in {
    "retry": "('failed', 'retrying')",
    "resolve": "('failed')",
    "shutdown": "('failed')",
    "cancel": UNFINISHED,
    "reset": BUSY,
}.items():
    _register(_verb, _statuses)


@fault("add child")
def add_child(arena: Arena) -> Blow | None:
    """Add a child from outside, with a key that makes a repeated call the same one."""
    from tests.chaos.handlers import call_of

    parent = pick(arena, BUSY)
    if parent is None:
        return None
    label = f"{_label(parent)}.x{arena.next_number()}"
    shape = {
        "label": label,
        "task": "work",
        "mode": "blocking",
        "children": [],
        "ms": 2,
        "fails": 0,
    }
    if not steer(parent, "add_child", call_of(shape), key=label, metadata={"label": label}):
        return None
    arena.labels.add(label)
    return Blow("add child", [parent], detail=label)


@fault("pause")
def pause(arena: Arena) -> Blow | None:
    """Pause the workflow of a running node, and resume it a little later."""
    from backbeat_celery.models import Node

    node = pick(arena, "('running')")
    if node is None:
        return None
    workflow = insist(lambda: Node.objects.get(pk=node).workflow)
    if not _call(lambda: workflow.pause(by="chaos", reason="lunch")):
        return None
    arena.paused[plain(workflow.pk)].append(time.time())

    def resume() -> None:
        # One resume ends all pauses of the workflow that began meanwhile.
        for begun in arena.paused.pop(plain(workflow.pk), []):
            arena.pauses.append((plain(workflow.pk), begun, time.time()))
        _call(lambda: workflow.resume(by="chaos"))

    arena.later(arena.rng.uniform(0.5, LONGEST_PAUSE), resume)
    return Blow("pause", [node])


@fault("cancel workflow")
def cancel_workflow(arena: Arena) -> Blow | None:
    from backbeat_celery.models import Node

    node = pick(arena, UNFINISHED)
    if node is None:
        return None
    workflow = insist(lambda: Node.objects.get(pk=node).workflow)
    return Blow("cancel workflow", [node]) if _call(lambda: workflow.cancel(by="chaos")) else None


@fault("many sweepers")
def many_sweepers(arena: Arena) -> Blow | None:
    """Eight more sweepers at once, none of which asks whose turn it is."""
    from backbeat_celery.engine.repair.sweep import Sweep

    nodes = [node for node, _ in running()] + queued()
    if not nodes:
        return None

    def sweep() -> None:
        for _ in range(PASSES):
            Sweep("default").run()
        connections.close_all()

    for _ in range(SWEEPERS):
        threading.Thread(target=sweep, daemon=True).start()
    return Blow("many sweepers", nodes)


@fault("close")
def close_workflow(arena: Arena) -> Blow | None:
    """Close the workflow of a random node, of which others may be about to signal it."""
    from backbeat_celery.models import Node

    node = pick(arena, UNFINISHED)
    if node is None:
        return None
    workflow = insist(lambda: Node.objects.get(pk=node).workflow)
    if workflow.closed_at is not None:
        return None
    close(arena, workflow.subject)
    return Blow("close", [node])


def close(arena: Arena, subject: str) -> None:
    """Close the run of a subject, which then ends when its tree does."""
    from backbeat_celery.models import Workflow

    for workflow in insist(lambda: list(Workflow.objects.filter(subject=subject))):
        if _call(partial(workflow.close, by="chaos")):
            arena.closed.add(plain(workflow.pk))


class Attendant:
    """Sees to failed nodes: sooner or later each is retried, resolved or shut down."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def attend(self, arena: Arena) -> list[Blow]:
        """Deal with those that have waited long enough."""
        now = time.monotonic()
        failed = {plain(node) for (node,) in ask(f"{SELECT} ('failed')")}
        self._seen = {node: self._seen.get(node, now) for node in failed}
        blows = []
        for node, since in sorted(self._seen.items()):
            if now - since > arena.rng.uniform(0.5, LONGEST_NEGLECT):
                verb = arena.rng.choices(["retry", "resolve", "shutdown"], [6, 3, 1])[0]
                if steer(node, verb, by="attendant", **results_of(verb)):
                    blows.append(Blow(verb, [node]))
        return blows


def _label(node: str) -> str:
    from backbeat_celery.models import Node

    row = insist(lambda: Node.objects.get(pk=node))
    if row.is_container and label_of(row) is None:
        return _label(str(row.parent_id))
    return label_of(row) or "rescue"
