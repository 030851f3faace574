"""The machine with an operator at the wheel: verbs at any moment, also in the middle of a step.

Where each node ends depends on the moment, so no model foretells it. Instead each verb must do
what it says or be refused, the invariants hold throughout, and in the end, when the operator has
resumed everything and resolved what failed, nothing but open roots is left unfinished.
In canvases, what the operator did says where all else ends, and with which value.
"""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from backbeat_celery import signal
from backbeat_celery.exceptions import InvalidTransition, LinkCycle, NodeFinished, WorkflowClosed
from backbeat_celery.models import Node, Transition, Workflow
from backbeat_celery.states import UNFINISHED, Status
from tests.integration.canvas.plays import play
from tests.stateful import handlers, invariants
from tests.stateful.canvases import MAY_FAIL, SteeredCanvases, grow_canvas, result_by_hand
from tests.stateful.machine import Machine
from tests.stateful.shapes import grow

TAKES = {
    "retry": {Status.FAILED, Status.RETRYING},
    "resolve": {Status.FAILED},
    "shutdown": {Status.FAILED},
    "cancel": UNFINISHED,
    "reset": UNFINISHED,
    "cancel_previous": frozenset(Status),
}
WORKFLOW_VERBS = ["pause", "resume", "resume", "cancel", "close"]


def _waits_for(node: Node) -> list[UUID]:
    """What a shutdown gives up: the siblings that could not start while this one was failed."""
    given_up, is_given_up = [], node.mode == "blocking"
    for sibling in Node.objects.filter(parent_id=node.parent_id, seq__gt=node.seq).order_by("seq"):
        is_open_barrier = sibling.barrier and sibling.finished_at is None
        is_given_up |= is_open_barrier and node.mode != "fire_and_forget"
        if is_given_up:
            given_up.append(sibling.pk)
    return given_up


def _result(verb: str, node: Node) -> dict[str, Any]:
    """The result that a task in a canvas is resolved with, as what follows it gets it."""
    is_canvas = verb == "resolve" and node.task == play.name
    return {"result": result_by_hand(node.kwargs["label"])} if is_canvas else {}


class SteeredMachine(Machine):
    """Signals, accidents, and an operator who does whatever the admin allows."""

    def __init__(self) -> None:
        super().__init__()
        self.canvases = SteeredCanvases()

    def signal_canvas(self, seed: int, size: int) -> None:
        self.canvases.signal(grow_canvas(random.Random(seed), size, MAY_FAIL))

    def signal(self, shape: dict[str, Any], pair: tuple[str, str]) -> None:
        self._label(shape)
        self._try_to_signal(shape, pair)

    def link(self, shape: dict[str, Any], pair: tuple[str, str], index: int) -> None:
        self._label(shape)
        self._try_to_signal(shape, pair, link=self._pick(index))

    def _try_to_signal(self, shape: Any, pair: tuple[str, str], **more: Any) -> None:
        options = {**self._signal_options(shape, pair), **more}
        try:
            signal(handlers.signature_of(shape), **options)
        except WorkflowClosed:
            assert Workflow.objects.filter(closed_at__isnull=False, unfinished=True).exists()
        except (LinkCycle, InvalidTransition):
            assert more.get("link") is not None

    def _strike(self, rng: random.Random) -> None:
        if rng.random() < 0.5:
            super()._strike(rng)
        elif rng.random() < 0.6:
            self._steer(rng.getrandbits(32))
        else:
            shape = {"seed": rng.getrandbits(32)}
            point = rng.choice(["before_record", "recorded", "looked", "before_handler"])
            self.meddle(point, rng.randint(0, 3), "steer", shape, 0)

    def _happen(self, accident: str, shape: dict[str, Any], index: int) -> None:
        if accident == "steer":
            self._steer(shape["seed"])
        else:
            super()._happen(accident, shape, index)

    def _add(self, parent: Node | None, shape: dict[str, Any]) -> None:
        if parent is None or parent.is_root or shape["kind"] == "flag" or "label" in shape:
            return
        parent.refresh_from_db()
        self._label(shape)
        try:
            parent.add_child(handlers.signature_of(shape), **handlers.options_of(shape))
        except NodeFinished:
            assert parent.is_finished

    def _steer(self, seed: int) -> None:
        rng = random.Random(seed)
        if rng.random() < 0.3:
            self._steer_workflow(rng)
        else:
            self._steer_node(rng)

    def _steer_node(self, rng: random.Random) -> None:
        # Most of a tree takes only the verbs that destroy; an operator looks for failures.
        nodes = list(Node.objects.exclude(parent=None).order_by("pk"))
        wanting = [n for n in nodes if n.status in (Status.FAILED, Status.RETRYING)]
        settles = rng.random() < 0.7
        node = rng.choice(wanting if wanting and settles else nodes)
        verb = rng.choice([*TAKES] if settles else ["cancel", "reset", "cancel_previous"])
        before, changes = node.status, invariants.last_change()
        act = getattr(node, verb)
        if before in TAKES[verb]:
            given_up = list(_waits_for(node)) if verb == "shutdown" else []
            act(by="operator", reason=verb, **_result(verb, node))
            self._check(verb, node, before)
            assert not Node.objects.filter(pk__in=given_up).unfinished().exists()
        else:
            with pytest.raises(InvalidTransition, match=before):
                act()
            assert invariants.last_change() == changes

    def _check(self, verb: str, node: Node, before: str) -> None:
        below = Node.objects.filter(parent=node)
        if verb in {"cancel", "reset"}:
            assert not below.unfinished().exists()
        if verb == "retry":
            assert not below.filter(rescue=False).unfinished().exists()
        if verb in {"reset", "cancel_previous"}:
            last = Transition.objects.filter(node=node).order_by("-pk").first()
            assert node.status == before or (last and last.actor == "")  # what follows from it
        if verb in {"resolve", "shutdown"}:
            assert node.outcome == {"resolve": "resolved"}.get(verb, verb)
            assert node.status in {"waiting", "complete"}

    def _steer_workflow(self, rng: random.Random) -> None:
        workflow = rng.choice(list(Workflow.objects.order_by("pk")))
        verb = rng.choice(WORKFLOW_VERBS)
        try:
            getattr(workflow, verb)(by="operator")
        except InvalidTransition:
            assert verb == "pause"
            assert workflow.unfinished is None

    def teardown(self) -> None:
        try:
            self._come_to_rest()
            self._put_right()
        finally:
            self.stack.close()

    def _put_right(self) -> None:
        """Resume and resolve until nothing wants an operator, then close all that is left."""
        for workflow in Workflow.objects.all():
            workflow.resume(by="operator")
        self._come_to_rest()
        while failed := Node.objects.filter(status=Status.FAILED).order_by("pk").first():
            failed.resolve(by="operator", **_result("resolve", failed))
            self._come_to_rest()
        left = Node.objects.unfinished().exclude(parent=None)
        assert not left.exists(), [str(node) for node in left]
        for workflow in Workflow.objects.filter(closed_at=None):
            workflow.close()
        self._come_to_rest()
        assert not Node.objects.unfinished().exists()
        self.canvases.compare(self.sim.calls)


def steered_canvases(seed: int) -> None:
    """Run the machine once with more canvases than trees; raise what it finds."""
    steered_weather(seed, canvases=0.7)


def steered_weather(seed: int, canvases: float = 0.0) -> None:
    """Run the machine once, with such a share of canvases; raise what it finds."""
    rng = random.Random(seed)
    machine = SteeredMachine()
    try:
        for _ in range(rng.randint(1, 10)):
            shape = grow(rng.getrandbits(32), rng.randint(1, 9), is_signal=True)
            pair = rng.choice(["order", "return"]), f"lens {rng.randint(0, 5)}"
            if canvases and rng.random() < canvases:
                machine.signal_canvas(rng.getrandbits(32), rng.randint(2, 9))
            elif rng.random() < 0.15:
                machine.link(shape, pair, rng.randint(0, 99))
            else:
                machine.signal(shape, pair)
            machine.storm(rng.getrandbits(32), rng.randint(1, 4))
    except BaseException:
        machine.stack.close()
        raise
    machine.teardown()
