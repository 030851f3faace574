"""A long queue: left alone while nothing is missing, made good after a purge, and not more.

Two waves of wide trees on real workers. The first is drained in peace; of the second all that is
on the queue is lost. How often a node's message was sent again is in its row.
"""

from __future__ import annotations

import time
from typing import Any

from tests.chaos.arena import Blow
from tests.chaos.run import Outcome, Run
from tests.chaos.shapes import BLOCKING, PARALLEL, Shape, Tree, labels
from tests.chaos.watch import ask, counts, queued

WIDTH = 500
"""Nodes that become due at once by the end of one handler."""
MOST_IN_PEACE = 0.01
MOST_PER_LOSS = 1.2
DRAIN = 300
"""Seconds that a wave may take."""


class PurgeRun(Run):
    """A run with two waves and one fault."""

    def play(self) -> Outcome:
        begun = time.monotonic()
        self.arena.fleet.start()
        self.outsiders.start()
        self.arena.tell("workers are ready")
        self._feed_wave("peace", self.profile.nodes // 2)
        self._drain()
        again = self._sent_again("peace")
        self._judge("sent again though nothing was lost", again, self._total, MOST_IN_PEACE)
        self._feed_wave("purge", self.profile.nodes * 7 // 5)
        lost = self._purge()
        self._drain()
        self.outcome.settled = 0.0
        self._judge("sent again after the purge", self._sent_again("purge"), lost, MOST_PER_LOSS)
        self._wait_for_rest()
        self._hear()
        self._replay_everything()
        self.outcome.labels = self.arena.labels
        self.outcome.seconds = time.monotonic() - begun
        return self.outcome

    def _feed_wave(self, name: str, nodes: int) -> None:
        before, trees = self._total, nodes // WIDTH
        for number in range(trees):
            label = f"{name}{number}"
            children = [_leaf(f"{label}.{n}", PARALLEL) for n in range(WIDTH)]
            tree = Tree(label, [{**_leaf(label, BLOCKING), "children": children}])
            self._send(tree)
            self.arena.labels |= set(labels(tree.signals))
        deadline = time.monotonic() + DRAIN
        is_enough = False
        while not is_enough and time.monotonic() < deadline:
            self._tick_quietly()
            is_enough = self._total >= before + trees * (WIDTH + 1)
            if name == "purge":
                is_enough = self.arena.messages.depth() > self.profile.nodes
        self.arena.tell(f"{self._total - before} nodes of the wave {name} are recorded")

    def _purge(self) -> int:
        """Lose everything, once enough of the wave waits."""
        nodes, depth = queued(), self.arena.messages.depth()
        lost = self.arena.messages.purge()
        self.arena.tell(f"{lost} of {depth} messages are purged, {len(nodes)} nodes are queued")
        self.outcome.blows = [Blow("purge queue", nodes, detail=f"{lost} messages")]
        if lost < self.profile.nodes:
            self.outcome.complaints.append(f"Only {lost} messages were there to be lost.")
        return lost

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN
        while self._total > self._finished or not self._total:
            if time.monotonic() > deadline:
                self.outcome.complaints.append(f"Not drained after {DRAIN} s.")
                return
            self._tick_quietly()
        self._total, self._finished = counts()

    def _sent_again(self, wave: str) -> int:
        """How many messages were sent beyond the first, by the rows."""
        ((again,),) = ask(
            "SELECT coalesce(sum(n.publish_count), 0) FROM backbeat_celery_node n"
            " JOIN backbeat_celery_workflow w ON w.id = n.workflow_id WHERE w.subject LIKE %s",
            f"{wave}%",
        )
        return int(again)

    def _judge(self, what: str, count: int, of: int, most: float) -> None:
        share = count / max(1, of)
        text = f"{count} of {of}, {share:.3f}"
        self.outcome.remarks[what] = text
        self.arena.tell(f"{what}: {text}")
        if share > most:
            self.outcome.complaints.append(f"{what}: {text}, and {most} is the limit.")


def _leaf(label: str, mode: str) -> Shape:
    shape: dict[str, Any] = {"label": label, "task": "work", "mode": mode, "children": []}
    return {**shape, "ms": 0, "fails": 0}
