"""Divide workflows by subject over two databases, and compare with one: docs/planning.md.

python -m benchmarks.shards --workflows 40 --children 50

Both databases are on one server and one machine here, so this tells what the division costs and
that it works, not what a second machine brings.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from benchmarks.harness import PATIENCE, Worker, wait_for_ticks
from benchmarks.servers import Servers, end_in_order, python, until

SETTINGS = {"one": "benchmarks.ours.settings", "two": "benchmarks.ours.sharded"}


def main() -> None:
    """Run each setting in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--workflows", type=int, default=40)
    parser.add_argument("--children", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(SETTINGS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        end_in_order()
        print(_round(options))
        return
    with Servers() as servers:
        redis, postgres = servers.redis(), servers.postgres()
        _make_databases(postgres)
        for number in range(options.rounds):
            for name in SETTINGS:
                environment = os.environ | {
                    "BENCH_BROKER": redis,
                    "BENCH_POSTGRES": postgres,
                    "BENCH_TICKS": str(servers.folder / "ticks"),
                    "BENCH_POOL": "prefork",
                    "BENCH_CONCURRENCY": "2",
                    "DJANGO_SETTINGS_MODULE": SETTINGS[name],
                }
                if number == 0:
                    _migrate(environment, name)
                command = [*python("-m", "benchmarks.shards"), *sys.argv[1:], "--only", name]
                subprocess.run(command, env=environment, check=True)


def _make_databases(address: str) -> None:
    import psycopg

    with psycopg.connect(f"{address}/postgres", autocommit=True) as server:
        for name in ("backbeat", "backbeat_shard"):
            server.execute(f"CREATE DATABASE {name}")


def _migrate(environment: dict[str, str], name: str) -> None:
    for alias in ("default", "shard_1") if name == "two" else ("default",):
        command = python("-m", "django", "migrate", "-v0", "--database", alias)
        subprocess.run(command, env=environment, check=True)


def _round(options: argparse.Namespace) -> str:
    from django.conf import settings

    import benchmarks.ours.project  # noqa: F401  (sets Django up)
    from backbeat_celery import signal
    from backbeat_celery.models import Node
    from benchmarks import ticks
    from benchmarks.ours.tasks import fan_out

    aliases = getattr(settings, "BACKBEAT", {}).get("DATABASES", ["default"])
    ticks.clear()
    with Worker("benchmarks.ours.app", "bench"):
        _send(1, 1, signal, fan_out, aliases)
        wait_for_ticks(1)
        ticks.clear()
        start = time.perf_counter()
        nodes = _send(options.workflows, options.children, signal, fan_out, aliases)
        wait_for_ticks(options.workflows * options.children)
        for node in nodes:
            until(lambda node=node: _is_complete(node), PATIENCE, "a tree")
        seconds = time.perf_counter() - start
    placed = Counter(node._state.db for node in nodes)
    for alias in aliases:
        assert not Node.objects.using(alias).filter(parent__isnull=False, finished_at=None)
    count = len(nodes) * (options.children + 2)
    where = ", ".join(f"{placed[alias]} workflows in {alias}" for alias in aliases)
    return f"{len(aliases)} database(s): {count / seconds:.0f} nodes/s; {where}"


def _send(workflows: int, children: int, signal: Any, task: Any, aliases: list[str]) -> list[Any]:
    from benchmarks.ours.router import shard

    nodes = []
    for number in range(workflows):
        subject = f"{time.time()} {number}"
        using = shard(subject) if len(aliases) > 1 else "default"
        nodes.append(signal(task.s(children), subject=subject, using=using))
    return nodes


def _is_complete(node: Any) -> bool:
    found = type(node).objects.using(node._state.db)
    return bool(found.filter(pk=node.pk, status="complete").exists())


if __name__ == "__main__":
    main()
