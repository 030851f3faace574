"""The faults. Each gives the blow, or None when it would have hit nothing that is unfinished.

To be sure of that, a process is frozen before it is killed: only if the node it holds is
running by the database is it killed then, else it goes on as if nothing had been.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.chaos.arena import Arena, Blow
from tests.chaos.profiles import LEASE
from tests.chaos.watch import ask, plain, queued, running
from tests.chaos.workers import ChaosWorker

Fault = Callable[[Arena], Blow | None]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    """Give a fault its name in profiles and reports."""

    def register(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return register


# Processes ---------------------------------------------------------------------------------


def _hit_child(arena: Arena, name: str, strike: Callable[[ChaosWorker, int], None]) -> Blow | None:
    for worker in arena.shuffled(arena.fleet.awake()):
        for pid in arena.shuffled(worker.pool()):
            node = freeze_and_find(arena, worker, pid)
            if node is not None:
                strike(worker, pid)
                return Blow(name, [node], detail=f"{worker.name} child {pid}")
            worker.thaw(pid)
    return None


def freeze_and_find(arena: Arena, worker: ChaosWorker, pid: int) -> str | None:
    """Freeze a child; give the node that it holds, if any."""
    worker.freeze(pid)
    return arena.held_by(pid, worker) if _is_stopped(pid) else None


def hit_worker(arena: Arena, name: str, strike: Callable[[ChaosWorker], None]) -> Blow | None:
    awake = arena.fleet.awake()
    if len(awake) < 2:
        return None  # somebody has to go on
    for worker in arena.shuffled(awake):
        if not worker.pool():
            continue
        worker.freeze()
        is_stopped = all(map(_is_stopped, [worker.process.pid, *worker.pool()]))
        nodes = [node for node, _ in running(worker.hostname)] if is_stopped else []
        if nodes:
            strike(worker)
            return Blow(name, nodes, detail=worker.name)
        worker.thaw()
    return None


def _is_stopped(pid: int) -> bool:
    """Wait until a process is frozen; False for one that is dead already."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if status in "TtZX":
            return status in "Tt"
        time.sleep(0.002)
    return False


@fault("kill child")
def kill_child(arena: Arena) -> Blow | None:
    return _hit_child(arena, "kill child", lambda _, pid: os.kill(pid, signal.SIGKILL))


@fault("terminate child")
def terminate_child(arena: Arena) -> Blow | None:
    def strike(worker: ChaosWorker, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        worker.thaw(pid)

    return _hit_child(arena, "terminate child", strike)


@fault("freeze child")
def freeze_child(arena: Arena) -> Blow | None:
    """The main process renews the lease of its frozen child; the timeout ends the attempt."""

    def strike(worker: ChaosWorker, pid: int) -> None:
        arena.lift_later(LEASE + arena.rng.uniform(1, 4), lambda: worker.thaw(pid))

    return _hit_child(arena, "freeze child", strike)


@fault("kill worker")
def kill_worker(arena: Arena) -> Blow | None:
    def strike(worker: ChaosWorker) -> None:
        worker.kill()
        arena.fleet.replace(worker)

    return hit_worker(arena, "kill worker", strike)


@fault("terminate worker")
def terminate_worker(arena: Arena) -> Blow | None:
    """A warm shutdown, as a deployment does it."""

    def strike(worker: ChaosWorker) -> None:
        worker.thaw()
        os.kill(worker.process.pid, signal.SIGTERM)
        arena.fleet.replace(worker)
        arena.lift_later(20, worker.kill)

    return hit_worker(arena, "terminate worker", strike)


@fault("freeze worker")
def freeze_worker(arena: Arena) -> Blow | None:
    """A zombie: others take over its nodes, and it wakes up in the middle of its handlers."""

    def thaw(worker: ChaosWorker) -> None:
        worker.is_frozen = False
        worker.thaw()

    def strike(worker: ChaosWorker) -> None:
        worker.is_frozen = True
        arena.lift_later(LEASE + arena.rng.uniform(1.5, 5), lambda: thaw(worker))

    if any(worker.is_frozen for worker in arena.fleet.workers):
        return None
    return hit_worker(arena, "freeze worker", strike)


# The engine's own helpers ----------------------------------------------------------------


@fault("stop sweepers")
def stop_sweepers(arena: Arena) -> Blow | None:
    nodes = [node for node, _ in running()] + queued()
    if not nodes:
        return None
    arena.fleet.flag("sweepers_off")
    arena.lift_later(arena.rng.uniform(8, 12), lambda: arena.fleet.lower("sweepers_off"))
    return Blow("stop sweepers", nodes)


@fault("mute renewals")
def mute_renewals(arena: Arena) -> Blow | None:
    """Let a slow handler outlive its lease while its worker is well."""
    slow = ask(
        "SELECT id, worker FROM backbeat_celery_node"
        " WHERE status = 'running' AND task = 'chaos.work' AND args LIKE %s",
        '%"slow"%',
    )
    for node, hostname in slow:
        for worker in arena.fleet.awake():
            if worker.hostname == hostname:
                flag = f"mute-{worker.name}"
                arena.fleet.flag(flag)
                arena.lift_later(LEASE + 3, partial(arena.fleet.lower, flag))
                return Blow("mute renewals", [plain(node)], detail=worker.name)
    return None


# The broker ---------------------------------------------------------------------------------


@fault("purge queue")
def purge_queue(arena: Arena) -> Blow | None:
    nodes = queued()
    if not nodes or not arena.messages.depth():
        return None
    count = arena.messages.purge()
    return Blow("purge queue", nodes, detail=f"{count} messages") if count else None


@fault("restart broker")
def restart_broker(arena: Arena) -> Blow | None:
    depth, nodes = arena.messages.depth(), queued()
    if not depth or not nodes or arena.broker is None:
        return None
    arena.broker.crash()
    time.sleep(arena.rng.uniform(0, 2))
    arena.broker.start()
    return Blow("restart broker", nodes, detail=f"{depth} messages")


@fault("duplicate")
def duplicate(arena: Arena) -> Blow | None:
    nodes = queued()
    taken = arena.messages.take(100)
    arena.messages.put([*taken, *arena.shuffled(taken)])
    return Blow("duplicate", nodes, detail=f"{len(taken)} messages") if taken else None


@fault("delay")
def delay(arena: Arena) -> Blow | None:
    nodes = queued()
    taken = arena.messages.take(50)
    if not taken:
        return None
    seconds = arena.rng.uniform(1, 10)
    arena.later(seconds, lambda: arena.messages.put(arena.shuffled(taken)))
    return Blow("delay", nodes, detail=f"{len(taken)} messages {seconds:.1f} s")


@fault("replay")
def replay(arena: Arena) -> Blow | None:
    nodes = queued()
    count = arena.messages.replay(arena.rng, 100) if nodes else 0
    return Blow("replay", nodes, detail=f"{count} old messages") if count else None


# The database and the way to it -----------------------------------------------------------


@fault("end connection")
def end_connection(arena: Arena) -> Blow | None:
    nodes = [node for node, _ in running()]
    if not nodes:
        return None
    if arena.kinds[0] == "postgres":
        ended = ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " ORDER BY xact_start NULLS LAST, state_change DESC LIMIT 1"
        )
    else:
        ended = ask(
            "SELECT id FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> connection_id() ORDER BY time LIMIT 1"
        )
        for (number,) in ended:
            ask(f"KILL {int(number)}")
    return Blow("end connection", nodes) if ended else None


@fault("cut commit")
def cut_commit(arena: Arena) -> Blow | None:
    """Lose a COMMIT on its way to the database, or the answer to it on its way back."""
    nodes = [node for node, _ in running()]
    if not nodes:
        return None
    proxy = arena.rng.choice(arena.proxies)
    before = proxy.tell("cut_commits", count=1, seed=arena.rng.getrandbits(32))
    deadline = time.monotonic() + 3
    while (now := proxy.tell("count"))["applied"] + now["dropped"] <= (
        before["applied"] + before["dropped"]
    ):
        if time.monotonic() > deadline:
            proxy.tell("cut_commits", count=0, seed=0)
            return None
        time.sleep(0.02)
    what = "applied" if now["applied"] > before["applied"] else "dropped"
    return Blow("cut commit", nodes, detail=what)


@fault("partition")
def partition(arena: Arena) -> Blow | None:
    """No byte passes between one worker and the database for longer than a lease."""
    for worker in arena.shuffled(arena.fleet.awake()):
        nodes = [node for node, _ in running(worker.hostname)]
        if nodes:
            proxy = arena.proxies[worker.slot]
            proxy.tell("hole")
            arena.lift_later(2 * LEASE, partial(proxy.tell, "mend"))
            return Blow("partition", nodes, detail=worker.name)
    return None


@fault("slow network")
def slow_network(arena: Arena) -> Blow | None:
    nodes = [node for node, _ in running()]
    if not nodes:
        return None
    for proxy in arena.proxies:
        proxy.tell("delay", seconds=0.05)
        arena.lift_later(5, partial(proxy.tell, "delay", seconds=0))
    return Blow("slow network", nodes, detail="50 ms each way")
