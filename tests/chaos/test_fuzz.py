"""Arbitrary values through every door: refused with a word of explanation, or carried out.

`BACKBEAT_CHAOS_FUZZ` says how many; docs/chaos.md has the figures of the long run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from backbeat_celery import current_node, node_task, signal, signal_many
from backbeat_celery.exceptions import BackbeatError
from backbeat_celery.models import Node, Workflow
from tests.chaos.values import value
from tests.stateful.invariants import broken_now

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(7200)]
COUNT = int(os.environ.get("BACKBEAT_CHAOS_FUZZ", "600"))
SEED = int(os.environ.get("BACKBEAT_CHAOS_SEED", "0"))
REFUSALS = (BackbeatError, TypeError)
"""What a caller may be told: that it is wrong, by us or by Python's own check of arguments."""
BATCH = 100
OPTIONS = ["mode", "fires_at", "delay", "key", "metadata", "barrier", "subject", "name", "link"]
NODE_VERBS = [
    *("retry", "resolve", "shutdown", "cancel", "reset", "cancel_previous", "explain"),
    *("complete", "fail", "add_child", "tree", "render"),
]
WORKFLOW_VERBS = ["pause", "resume", "close", "cancel", "signal", "tree", "render"]


@node_task(name="chaos.fuzzed", max_retries=1, retry_backoff=False, default_retry_delay=1)
def fuzzed(*args: Any, **kwargs: Any) -> Any:
    """Do what the test says."""
    return _work() if _work is not None else None


_work: Callable[[], Any] | None = None


class Fuzzer:
    """Draws calls, makes them, and remembers how they ended."""

    def __init__(self, sim: Any, rng: random.Random) -> None:
        self.sim = sim
        self.rng = rng
        self.ends: Counter[str] = Counter()

    def options(self) -> dict[str, Any]:
        names = self.rng.sample(OPTIONS, self.rng.choice([0, 1, 1, 2, 3]))
        return {name: value(self.rng) for name in names}

    def call(self) -> Any:
        """A signature with arbitrary arguments, or no signature at all."""
        kinds = ["args", "kwargs", "set", "plain", "value"]
        match self.rng.choice(kinds):
            case "args":
                return fuzzed.s(*(value(self.rng) for _ in range(self.rng.randint(0, 3))))
            case "kwargs":
                return fuzzed.s(x=value(self.rng), password=value(self.rng))
            case "set":
                option = self.rng.choice(
                    ["queue", "priority", "countdown", "eta", "expires", "link"]
                )
                return fuzzed.s().set(**{option: value(self.rng)})
            case "plain":
                return fuzzed.si()
        return value(self.rng)

    def signal(self) -> None:
        signal(self.call(), **{"subject": self.subject(), **self.options()})

    def signal_many(self) -> None:
        signal_many([(self.call(), {"subject": "camera", **self.options()}), value(self.rng)])

    def subject(self) -> Any:
        return self.rng.choice(["camera", "lens", value(self.rng)])

    def for_subject(self) -> None:
        Workflow.objects.for_subject(value(self.rng), self.rng.choice(["w", value(self.rng)]))

    def steer(self) -> None:
        node = self.pick(Node.objects.all())
        verb = self.rng.choice(NODE_VERBS)
        if node is not None and hasattr(node, verb):
            self._call_verb(node, verb, ["complete", "fail", "add_child"])

    def steer_workflow(self) -> None:
        workflow = self.pick(Workflow.objects.all())
        if workflow is not None:
            self._call_verb(workflow, self.rng.choice(WORKFLOW_VERBS), ["signal"])

    def _call_verb(self, target: Any, verb: str, with_argument: list[str]) -> None:
        rng = self.rng
        arguments = [self.call() if verb in {"add_child", "signal"} else value(rng)]
        names = rng.sample(["by", "reason", "attempt", *OPTIONS], rng.choice([0, 1, 2]))
        options = {name: value(rng) for name in names}
        getattr(target, verb)(*(arguments if verb in with_argument else []), **options)

    def run_handler(self) -> None:
        """Let a handler spawn, report progress and return what it likes."""
        global _work
        rng = self.rng

        def work() -> Any:
            node = current_node()
            for _ in range(rng.randint(0, 3)):
                door = rng.choice(["spawn", "spawn_many", "flag", "progress"])
                if not hasattr(node, door):
                    continue
                first = {"spawn": self.call, "spawn_many": lambda: [self.call()]}.get(door)
                argument = first() if first else value(rng)
                try:
                    getattr(node, door)(argument, **(self.options() if door != "progress" else {}))
                except REFUSALS as exc:
                    self.ends[type(exc).__name__] += 1
            if rng.random() < 0.2:
                raise rng.choice([RuntimeError(value(rng)), SystemExit(value(rng)), KeyError()])
            return value(rng)

        _work = work
        self.sim.advance(seconds=rng.choice([0, 1, 2, 40]))
        _work = None

    def pick(self, rows: Any) -> Any:
        count = rows.count()
        return rows.order_by("pk")[self.rng.randrange(count)] if count else None

    def step(self) -> None:
        """One call, in a savepoint of its own, as a request would make it."""
        door = self.rng.choice(
            [
                *[self.signal] * 3,
                self.signal_many,
                self.for_subject,
                *[self.steer] * 3,
                self.steer_workflow,
                self.run_handler,
            ]
        )
        try:
            with transaction.atomic():
                door()
        except REFUSALS as exc:
            self.ends[type(exc).__name__] += 1
        except RuntimeError as exc:
            if not str(exc).startswith("no "):
                raise
            self.ends["what the value itself raised"] += 1
        else:
            self.ends["done"] += 1


@pytest.mark.parametrize("batch", range(max(1, COUNT // BATCH)))
def test_arbitrary_values_are_refused_or_carried_out(sim: Any, batch: int, settings: Any):
    settings.BACKBEAT = {"MAX_PAYLOAD": 4096, "REDACT": ("password",)}
    fuzzer = Fuzzer(sim, random.Random(f"{SEED} {batch}"))
    for number in range(BATCH):
        try:
            fuzzer.step()
        except Exception as exc:
            exc.add_note(f"This was call {number} of batch {batch}, seed {SEED}.")
            raise
    assert broken_now() == []
    print(batch, dict(fuzzer.ends))
    assert fuzzer.ends["done"] and fuzzer.ends.total() > BATCH / 2
