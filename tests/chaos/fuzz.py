"""`python -m tests.chaos.fuzz`: hostile messages on the queue of real workers.

Afterwards no worker process has ended, no node has changed that ought not to, the invariants
hold, new workflows run, and no secret is in any log or message.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.profiles import Profile
from tests.waiting import until

SECRET = "CANARY-7d1f0c"
"""A password: in one node's arguments, and nowhere else."""
BATCH = 250
NODES = 40
BRITTLE = 8
"""Nodes that fail; their rescue resolves a quarter of all, by chance, and leaves the others."""
PATIENCE = 60


class Fuzz:
    """Sends hostile messages to workers and looks at what comes of it."""

    def __init__(self, arena: Any, seed: int, count: int) -> None:
        self.arena = arena
        self.rng = random.Random(f"fuzz {seed}")
        self.count = count
        self.sent: Counter[str] = Counter()
        self.complaints: list[str] = []

    def run(self) -> None:
        """Do all of it."""
        from tests.chaos.hostile import Forger
        from tests.chaos.watch import newest

        self.arena.fleet.start()
        before = self._pids()
        nodes = self._prepare()
        quiet = newest()
        forger = Forger(self.rng, nodes)
        while self.sent.total() < self.count:
            batch = [forger.make() for _ in range(min(BATCH, self.count - self.sent.total()))]
            self.arena.messages.put([message for _, message in batch])
            self.sent.update(kind for kind, _ in batch)
            self._wait_drained()
        self._replay()
        self._examine(before, quiet)

    def _prepare(self) -> list[str]:
        """Nodes in every state that is at rest: complete, far in the future, failed, waiting."""
        from backbeat_celery import signal as send
        from tests.chaos.handlers import call_of

        shape = {"task": "work", "mode": "blocking", "children": [], "ms": 0, "fails": 0}
        ended = self._complete(shape, "before")
        for number in range(NODES):
            label, secret = f"later{number}", {"label": f"later{number}", "password": SECRET}
            send(
                call_of({**shape, "label": label, "password": SECRET}),
                subject=label,
                delay=86_400,
                metadata=secret,
            )
        for number in range(BRITTLE):
            label = f"failed{number}"
            failing = {**shape, "task": "brittle", "fails": 9, "label": label}
            send(call_of(failing), subject=label, metadata={"label": label})
        until(self._are_rescued, PATIENCE, "The rescues of the failed nodes are not complete")
        from backbeat_celery.models import Node

        if not Node.objects.filter(status="failed").exists():
            self.complaints.append("No failed node is left to send messages for.")
        return [str(pk) for pk in Node.objects.values_list("pk", flat=True)] + [str(ended.pk)]

    def _are_rescued(self) -> bool:
        """Whether each brittle node has failed and its rescue is over, which resolves some."""
        from backbeat_celery.models import Node

        rescues = Node.objects.filter(task="chaos.rescue", status="complete")
        return rescues.count() == BRITTLE

    def _complete(self, shape: dict[str, Any], label: str) -> Any:
        from backbeat_celery import signal as send
        from tests.chaos.handlers import call_of

        child = {**shape, "label": f"{label}.0"}
        tree = {**shape, "label": label, "children": [child]}
        node = send(call_of(tree), subject=label, metadata={"label": label})
        return self._wait_for(node, "complete")

    def _wait_for(self, node: Any, status: str) -> Any:
        def is_so() -> bool:
            node.refresh_from_db()
            return bool(node.status == status)

        until(is_so, PATIENCE, lambda: f"{node} is not {status}: {node.explain()}")
        return node

    def _wait_drained(self) -> None:
        if not self.arena.messages.drained(PATIENCE):
            self.complaints.append("The queue is not drained.")
            self.count = 0  # more would not tell more

    def _replay(self) -> None:
        """Messages of the nodes that are complete, once more."""
        from backbeat_celery.models import Node

        raw = []
        from tests.chaos.hostile import Forger

        forger = Forger(self.rng, ["unused"])
        for node in Node.objects.filter(status="complete"):
            for attempt in range(1, node.attempt + 2):
                header = {"node": str(node.pk), "attempt": attempt, "db": "default"}
                raw.append(forger.message(header, node.task))
        self.arena.messages.put(raw * 20)
        self.sent["replay"] += len(raw) * 20
        self._wait_drained()

    def _examine(self, before: set[int], quiet: int) -> None:
        from backbeat_celery.models import Transition
        from tests.stateful.invariants import broken_now

        time.sleep(2)  # what was taken off the queue last is still looked at
        for change in Transition.objects.filter(pk__gt=quiet):
            self.complaints.append(f"{change.node.name} went from {change}")
        self.complaints += broken_now()
        if gone := before - self._pids():
            self.complaints.append(f"The processes {sorted(gone)} have ended.")
        begun = time.monotonic()
        shape = {"task": "work", "mode": "blocking", "children": [], "ms": 0, "fails": 0}
        self._complete(shape, "afterwards")
        self.arena.tell(f"a new workflow ran within {time.monotonic() - begun:.1f} s")
        for worker in self.arena.fleet.workers:
            if SECRET in worker.output.read_text(errors="replace"):
                self.complaints.append(f"The secret is in the log of {worker.name}.")
        for body, properties in self.arena.messages.take(1000):
            if SECRET in f"{body!r}{properties}":
                self.complaints.append("The secret is in a message.")

    def _pids(self) -> set[int]:
        workers = self.arena.fleet.workers
        return {pid for worker in workers for pid in [worker.process.pid, *worker.pool()]}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--db", choices=["postgres", "mariadb", "sqlite"], default="postgres")
    # RabbitMQ itself refuses what is sent here: numbers of 80 bits, headers longer than a frame.
    parser.add_argument("--broker", choices=["redis", "embedded"], default="redis")
    arguments = parser.parse_args()
    from tests.chaos.arena import Arena

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="backbeat-fuzz-"))
    folder.chmod(0o755)
    profile = Profile(nodes=0, faults={}, workers=2, skews={})
    arena = Arena(profile, arguments.seed, arguments.db, arguments.broker, folder)
    fuzz = Fuzz(arena, arguments.seed, arguments.count)
    try:
        fuzz.run()
    finally:
        arena.stop()
    for kind, count in sorted(fuzz.sent.items()):
        print(f"{count:6} × {kind}")
    for complaint in fuzz.complaints[:50]:
        print(f"WRONG: {complaint}")
    print(f"{fuzz.sent.total()} messages, {len(fuzz.complaints)} complaints")
    if fuzz.complaints:
        print(f"Logs and data are in {folder}.")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    sys.exit(main())
