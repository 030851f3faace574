"""Watch what a long run uses: memory, descriptors, connections and channels must not grow."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import mean

from tests.chaos.arena import Arena
from tests.chaos.services import rabbitmq
from tests.chaos.watch import ask

INTERVAL = 10
"""Seconds between two samples."""
WARM_UP = 0.25
"""Share of the run in which caches and pools may still fill."""
SLACK = {
    "memory of main processes, MB": 0.05,
    "memory of pool processes, MB": 0.05,
    "descriptors": 0.02,
}
"""Share by which a figure may be larger at the end than after the warm-up."""
PAGE = os.sysconf("SC_PAGE_SIZE")


class Soak:
    """Samples of one run."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.samples: dict[str, list[float]] = defaultdict(list)
        self._next = 0.0

    def sample(self) -> None:
        """Take a sample, if it is time for one."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + INTERVAL
        main = [worker.process.pid for worker in self.arena.fleet.workers]
        pool = [pid for worker in self.arena.fleet.workers for pid in worker.pool()]
        pids = [*main, *pool]
        self.samples["memory of main processes, MB"].append(sum(map(_memory, main)))
        self.samples["memory of pool processes, MB"].append(sum(map(_memory, pool)))
        self.samples["descriptors"].append(sum(map(_descriptors, pids)))
        self.samples["processes"].append(len(pids))
        self.samples["database connections"].append(self._connections())
        self.samples["broker channels"].append(self._channels())

    def _connections(self) -> int:
        if self.arena.kinds[0] == "postgres":
            return int(
                ask("SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL")[0][0]
            )
        if self.arena.kinds[0] == "mariadb":
            return int(ask("SELECT count(*) FROM information_schema.processlist")[0][0])
        return 0

    def _channels(self) -> int:
        """AMQP channels; clients of a Redis."""
        server = self.arena.broker
        if server is None:
            return 0
        if server.name == "redis":
            from redis import Redis

            with Redis.from_url(server.url) as client:
                return len(client.client_list())
        done = subprocess.run(
            [rabbitmq("rabbitmqctl"), "-q", "list_channels", "pid"],
            env=server.environment(),
            capture_output=True,
            text=True,
            **server._as_user(),
        )
        return max(0, len(done.stdout.splitlines()) - 1)

    def rows(self) -> Iterator[tuple[str, float, float, float]]:
        """For each figure: after the warm-up, at the end, and the most there was."""
        for name, values in self.samples.items():
            rest = values[int(len(values) * WARM_UP) :]
            part = max(1, len(rest) // 3)
            yield name, mean(rest[:part]), mean(rest[-part:]), max(values)

    def complaints(self) -> list[str]:
        """What has grown."""
        return [
            f"{name} grew from {before:.0f} to {after:.0f}"
            for name, before, after, _ in self.rows()
            if after > before * (1 + SLACK.get(name, 0)) + 1
        ]

    def text(self) -> list[str]:
        """The figures, a line each."""
        return [
            f"{name}: {before:.0f} after the warm-up, {after:.0f} at the end, at most {most:.0f}"
            for name, before, after, most in self.rows()
        ]


def _memory(pid: int) -> float:
    with suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/statm").read_text().split()
        # What is shared with the parent by fork is counted there.
        return (int(text[1]) - int(text[2])) * PAGE / 2**20
    return 0.0


def _descriptors(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0
