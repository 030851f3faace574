"""Outsiders: whoever reports what became of nodes that await it.

A thread of the harness, apart from all workers, looks for attempts that await a report, and
reports as their shapes say: while the handler still runs, a moment later, twice at once, in two
ways at once, about an attempt that is not the running one, after the timeout, or never. What it
said, and whether that was taken, is evidence.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from tests.chaos.watch import insist, plain

INTERVAL = 0.05
PATIENCE = 60
TASK = "chaos.awaited"


@dataclass
class Report:
    """One thing that was said about one attempt."""

    node: str
    attempt: int
    verb: str
    begun: float
    """By the machine's monotonic clock, as in the handlers' log."""
    was_taken: bool | None = None
    """None if the answer was lost: the same report, made again, was refused."""

    @property
    def may_count(self) -> bool:
        return self.was_taken is not False


@dataclass(frozen=True)
class Seen:
    """An attempt that awaits a report."""

    node: str
    attempt: int
    claim: Any
    shape: dict[str, Any]


class Outsiders(threading.Thread):
    """Reports until it is stopped."""

    def __init__(self, seed: int, late: float) -> None:
        super().__init__(daemon=True)
        self.rng = random.Random(f"outsiders {seed}")
        self.late = late
        """Seconds after which an attempt's time is surely over."""
        self.reports: list[Report] = []
        self.complaints: list[str] = []
        self._known: set[tuple[str, int]] = set()
        self._agenda: list[tuple[float, Callable[[], None]]] = []
        self._is_over = threading.Event()

    def run(self) -> None:
        try:
            while not self._is_over.wait(INTERVAL):
                for seen in insist(_awaiting):
                    if (seen.node, seen.attempt) not in self._known:
                        self._known.add((seen.node, seen.attempt))
                        self._plan(seen)
                self._keep_agenda()
        except Exception as exc:
            self.complaints.append(f"The outsiders have stopped: {exc!r}")
        finally:
            connections.close_all()

    def stop(self) -> None:
        """Say no more."""
        self._is_over.set()
        self.join(timeout=PATIENCE)

    def _plan(self, seen: Seen) -> None:
        kinds = seen.shape["reports"]
        kind = kinds[seen.attempt - 1] if seen.attempt <= len(kinds) else "soon"
        soon = self.rng.uniform(0, 0.5)
        match kind:
            case "early":
                self._later(0, partial(self.say, seen, "complete"))
            case "soon" | "fail":
                verb = "fail" if kind == "fail" else "complete"
                self._later(soon, partial(self.say, seen, verb))
            case "twice" | "both":
                verbs = ["complete", "fail" if kind == "both" else "complete"]
                self._later(soon, partial(self._say_at_once, seen, verbs))
            case "wrong":
                other = Seen(seen.node, seen.attempt + 1, seen.claim, seen.shape)
                self._later(soon / 2, partial(self.say, other, "complete"))
                self._later(soon, partial(self.say, seen, "complete"))
            case "late":
                self._later(self.late + 4 * soon, partial(self.say, seen, "complete"))

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self._agenda.append((time.monotonic() + seconds, work))

    def _keep_agenda(self) -> None:
        now = time.monotonic()
        due = [item for item in self._agenda if item[0] <= now]
        self._agenda = [item for item in self._agenda if item[0] > now]
        for _, work in due:
            work()

    def _say_at_once(self, seen: Seen, verbs: list[str]) -> None:
        """Two reports at the same moment, each over a connection of its own."""
        start = threading.Barrier(len(verbs))

        def say(verb: str) -> None:
            start.wait()
            self.say(seen, verb)
            connections.close_all()

        threads = [threading.Thread(target=say, args=[verb]) for verb in verbs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=PATIENCE)

    def say(self, seen: Seen, verb: str) -> Report:
        """Report until there is an answer; from any thread."""
        from backbeat_celery.exceptions import InvalidTransition

        report = Report(seen.node, seen.attempt, verb, time.monotonic())
        self.reports.append(report)
        was_lost = False
        while time.monotonic() < report.begun + PATIENCE:
            try:
                _tell(seen, verb)
            except InvalidTransition:
                report.was_taken = None if was_lost else False
                return report
            except (DatabaseError, InterfaceError):
                was_lost = True
                connections.close_all()
                time.sleep(0.1)
            else:
                report.was_taken = True
                return report
        return report


def _awaiting() -> list[Seen]:
    from backbeat_celery.models import Node

    rows = Node.objects.filter(task=TASK, status="running")
    found = rows.values_list("pk", "attempt", "claim_id", "args")
    return [Seen(plain(pk), number, claim, args[0]) for pk, number, claim, args in found]


def _tell(seen: Seen, verb: str) -> None:
    """Report by the token that the attempt would have given away, or by number."""
    from uuid import UUID

    from backbeat_celery import api
    from backbeat_celery.inputs import tokens
    from backbeat_celery.models import Node

    says = {"complete": seen.shape["label"], "fail": "an outsider says so"}[verb]
    if seen.shape["by_token"]:
        ticket = tokens.Ticket("default", UUID(seen.node), seen.attempt, seen.claim)
        getattr(api, f"{verb}_by_token")(tokens.sign(ticket), says)
    else:
        node = Node.objects.get(pk=seen.node)
        getattr(node, verb)(says, attempt=seen.attempt, by="an outsider")
