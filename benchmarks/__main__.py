"""Run contestants in turn, several rounds, and print medians, spread, ratios and goals.

python -m benchmarks w1 w2 --broker redis --rounds 5 --report docs/benchmarks/redis.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.against import BEFORE, DATABASE, Earlier, with_earlier
from benchmarks.partitions import partition
from benchmarks.plan import NEEDS, WORKLOADS, Workload
from benchmarks.report import Results, machine
from benchmarks.servers import Missing, Servers, python

LONGEST_ROUND = 3600
DATABASES = ("backbeat", "backbeat_full", DATABASE, "plain", "dbos", "absurd")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", type=str.lower, help=f"of {', '.join(WORKLOADS)}; default: all"
    )
    parser.add_argument("--peers", help="contestants besides ours, with commas; default: all")
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--pool", choices=["prefork", "threads", "gevent"], default="prefork")
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of each workload's size")
    parser.add_argument(
        "--finished", type=int, default=1_000_000, help="finished nodes in the full tables of w5"
    )
    parser.add_argument("--partitions", action="store_true", help="divide our tables by time")
    parser.add_argument(
        "--against", help="a revision of git, which runs in turns with today's code"
    )
    parser.add_argument("--only", help="contestants, ours included, with commas; default: all")
    parser.add_argument("--json", type=Path, help="write the figures of all rounds to this file")
    parser.add_argument("--add", action="store_true", help="to what the JSON file already has")
    parser.add_argument("--report", type=Path, help="write the tables to this Markdown file")
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(WORKLOADS):
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    return options


def main() -> int:
    """Run what the command line asks for."""
    if sys.argv[1:2] == ["settings"]:
        from benchmarks.settings import main as measure_settings

        return measure_settings(sys.argv[2:])
    options = arguments()
    results = Results(options.broker)
    if options.add and options.json.exists():
        results.add(options.json)
    with Servers() as servers:
        environment = _environment(servers, options)
        _prepare(environment, options.partitions)
        earlier = None
        if options.against:
            earlier = Earlier(options.against, servers.folder, environment)
        for workload in _workloads(options):
            _run(workload, options, environment, results, earlier)
            print(f"{results.table(workload)}\n", flush=True)
    return 1 if results.is_wrong else 0


def _workloads(options: argparse.Namespace) -> list[Workload]:
    found = [WORKLOADS[name] for name in options.workloads or WORKLOADS]
    return [with_earlier(workload) for workload in found] if options.against else found


def _write(options: argparse.Namespace, results: Results) -> None:
    """Keep what is measured so far: a run takes long, and may be stopped."""
    conditions = {
        "broker": options.broker,
        "worker": f"{options.pool}, {options.concurrency}",
        "scale": options.scale,
        "finished nodes in full tables": options.finished,
        "partitions": 14 if options.partitions else "none",
    }
    if options.json:
        text = {"machine": machine(), "options": conditions, "results": results.rounds}
        options.json.write_text(json.dumps(text, indent=1))
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        tables = [results.table(w) for w in _workloads(options) if results.rounds[w.name]]
        title = f"# Measured on {options.broker}, {options.pool} {options.concurrency}"
        text = "\n\n".join([title, results.conditions(conditions), *tables])
        options.report.write_text(text.rstrip() + "\n")


def _environment(servers: Servers, options: argparse.Namespace) -> dict[str, str]:
    try:
        redis = servers.redis()
        broker = redis if options.broker == "redis" else servers.rabbitmq()
        postgres = servers.postgres()
    except Missing as exc:
        raise SystemExit(str(exc)) from None
    return {
        **os.environ,
        **{f"BENCH_{name.upper()}_PID": str(pid) for name, pid in servers.pids.items()},
        "BENCH_REDIS": redis,
        "BENCH_BROKER": broker,
        "BENCH_POSTGRES": postgres,
        "BENCH_TICKS": str(servers.folder / "ticks"),
        "BENCH_POOL": options.pool,
        "BENCH_CONCURRENCY": str(options.concurrency),
        "BENCH_FINISHED": str(options.finished),
        "DJANGO_SETTINGS_MODULE": "benchmarks.ours.settings",
    }


def _prepare(environment: dict[str, str], is_partitioned: bool) -> None:
    import psycopg

    with psycopg.connect(
        f"{environment['BENCH_POSTGRES']}/postgres", autocommit=True
    ) as connection:
        for name in DATABASES:
            connection.execute(f"CREATE DATABASE {name}")
    subprocess.run(python("-m", "django", "migrate", "-v0"), env=environment, check=True)
    if is_partitioned:
        with psycopg.connect(f"{environment['BENCH_POSTGRES']}/backbeat") as connection:
            partition(psycopg.ClientCursor(connection))


def _run(
    workload: Workload,
    options: argparse.Namespace,
    environment: dict[str, str],
    results: Results,
    earlier: Earlier | None,
) -> None:
    wanted = options.peers.split(",") if options.peers else None
    only = options.only.split(",") if options.only else workload.contestants
    size = max(1, round(workload.size * options.scale))
    names = [
        name
        for name in workload.contestants
        if name.removeprefix(BEFORE) in only
        and (wanted is None or name.startswith(("ours", BEFORE)) or name in wanted)
    ]
    for name in list(names):
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            results.note_failure(workload, name, f"skipped: {NEEDS[name]} is not installed")
            names.remove(name)
    first = max(map(len, results.rounds[workload.name].values()), default=0)
    for number in range(first, first + min(options.rounds, workload.rounds or options.rounds)):
        # Each round begins with another contestant, so that none always runs first.
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            _round(workload, name, size, environment, results, earlier)
            _write(options, results)


def _round(
    workload: Workload,
    name: str,
    size: int,
    environment: dict[str, str],
    results: Results,
    earlier: Earlier | None,
) -> None:
    folder = None
    if earlier is not None and name.startswith(BEFORE):
        folder, environment = earlier.folder, earlier.environment
    contestant = name.removeprefix(BEFORE)
    command = python("-m", f"benchmarks.workloads.{workload.name}", contestant, str(size))
    load = os.getloadavg()[0]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONGEST_ROUND,
        )
    except subprocess.TimeoutExpired:
        results.note_failure(workload, name, "took too long")
        return
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        results.note(workload, name, json.loads(lines[-1]) | {"load": load})
        return
    error = done.stderr.strip().splitlines() or ["died"]
    results.note_failure(workload, name, f"failed: {error[-1]}")
    if os.environ.get("BENCH_VERBOSE"):
        print(done.stdout, done.stderr, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
