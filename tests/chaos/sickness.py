"""What goes on and does not work: sessions, rows, servers and workers that only look well."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress

from django.db import DatabaseError, InterfaceError, connections, transaction

from tests.chaos.arena import Arena, Blow
from tests.chaos.faults import fault, freeze_and_find, hit_worker
from tests.chaos.foreigners import ForeignWorker
from tests.chaos.outsiders import TASK, Seen
from tests.chaos.profiles import LEASE
from tests.chaos.watch import ask, plain, queued, running
from tests.chaos.workers import ChaosWorker

SPOILED_AT = ("after_handler", "before_record", "before_advance")
"""In a handler's session, and in the engine's own at two places."""
STAY = 4.0
"""Seconds that a worker without the package goes on after it has refused a message."""
PATIENCE = 60


@fault("sick connection")
def sick_connection(arena: Arena) -> Blow | None:
    """A session of a worker, its handler's or the engine's, answers and can write no more."""
    point = arena.armed.get("sick connection")
    if point is None:
        point = arena.armed["sick connection"] = arena.rng.choice(SPOILED_AT)
        arena.fleet.flag(f"armed-{point}", json.dumps({"kind": "sick"}))
        return None
    if (arena.fleet.flags / f"armed-{point}").exists():
        return None
    del arena.armed["sick connection"]
    return Blow("sick connection", [node for node, _ in running()] or queued(), detail=point)


@fault("locked row")
def locked_row(arena: Arena) -> Blow | None:
    """Somebody's transaction holds a running node, or its parent, for longer than a lease."""
    from backbeat_celery.models import Node

    column = arena.rng.choice(["id", "parent_id"])
    found = sorted(
        plain(pk)
        for (pk,) in ask(f"SELECT {column} FROM backbeat_celery_node WHERE status = 'running'")
    )
    if not found:
        return None
    node, is_locked = arena.rng.choice(found), threading.Event()

    def hold() -> None:
        with suppress(DatabaseError, InterfaceError), transaction.atomic():
            Node.objects.filter(pk=node).locked().first()
            is_locked.set()
            time.sleep(LEASE + 1)
        connections.close_all()

    arena.beside(hold)
    return Blow("locked row", [node], detail=column) if is_locked.wait(3) else None


@fault("read-only database")
def read_only_database(arena: Arena) -> Blow | None:
    """The server takes no writes for some seconds, as in a failover."""
    nodes = [node for node, _ in running()]
    if not nodes or arena.database is None:
        return None
    _set_read_only(arena.database.url, "on")
    arena.lift_later(
        arena.rng.uniform(2, 5),
        lambda: _set_read_only(arena.database.url, "off"),  # type: ignore[union-attr]
    )
    return Blow("read-only database", nodes)


def _set_read_only(url: str, value: str) -> None:
    import psycopg

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:  # it may have crashed meanwhile
        with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as session:
            session.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            session.execute("SELECT pg_reload_conf()")
            return
        time.sleep(0.1)


@fault("cold shutdown")
def cold_shutdown(arena: Arena) -> Blow | None:
    """SIGQUIT: handlers are interrupted, and their attempts given back."""

    def strike(worker: ChaosWorker) -> None:
        worker.thaw()
        os.kill(worker.process.pid, signal.SIGQUIT)
        arena.fleet.replace(worker)
        arena.lift_later(20, worker.kill)

    return hit_worker(arena, "cold shutdown", strike)


@fault("worker without the package")
def worker_without_the_package(arena: Arena) -> Blow | None:
    """A worker of the release before takes messages about nodes, and can run none."""
    if arena.foreign is None:
        arena.foreign = ForeignWorker(arena.folder, arena.log.path)
        return None
    foreign, nodes = arena.foreign, queued()
    if foreign.refused() and nodes:
        arena.foreign = None
        arena.lift_later(STAY, foreign.kill)
        return Blow("worker without the package", nodes)
    if not foreign.is_alive():
        arena.foreign = None
    return None


@fault("report then kill")
def report_then_kill(arena: Arena) -> Blow | None:
    """Take a report from outside while the handler still runs, and kill its process then."""
    by_host = _awaited_by_host()
    for worker in arena.shuffled([w for w in arena.fleet.awake() if w.hostname in by_host]):
        for pid in arena.shuffled(worker.pool()):
            node = freeze_and_find(arena, worker, pid)
            if node is not None and _report(arena, node):
                os.kill(pid, signal.SIGKILL)
                return Blow("report then kill", [node], detail=f"{worker.name} child {pid}")
            worker.thaw(pid)
    return None


def _awaited_by_host() -> set[str]:
    rows = ask(
        "SELECT worker FROM backbeat_celery_node WHERE status = 'running' AND task = %s"
        " AND lease_expires_at IS NOT NULL AND report IS NULL",
        TASK,
    )
    return {worker for (worker,) in rows}


def _report(arena: Arena, node_id: str) -> bool:
    """Report on a node whose handler is frozen; False if it awaits none, or is being recorded."""
    from backbeat_celery.models import Node

    rows = Node.objects.filter(pk=node_id, task=TASK, report=None).with_lease()
    with transaction.atomic():
        free = rows.free().values_list("attempt", "claim_id", "args").first()
    if free is None or arena.outsiders is None:
        return False
    attempt, claim_id, args = free
    report = arena.outsiders.say(Seen(node_id, attempt, claim_id, args[0]), "complete")
    return report.was_taken is True
