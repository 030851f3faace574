"""Where a worker's time goes in W1: a sampling profile of its main process and of one child.

python -m benchmarks.profile --nodes 6000 --report docs/benchmarks/profile.md

Needs `pip install py-spy`. A share is of the samples in which the process was busy.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.harness import children_of, wait_for_ticks
from benchmarks.servers import Servers

MOST = 14
"""Lines of each table."""

FRAME = re.compile(r"^(?P<function>.+) \((?P<file>.+?)(?::\d+)?\)$")
PARTS = {
    "backbeat_celery": "backbeat_celery, and libpq called by it",
    "psycopg": "psycopg",
    "django": "Django",
    "kombu": "kombu",
    "amqp": "amqp",
    "redis": "redis",
    "billiard": "billiard",
    "celery": "Celery",
    "benchmarks": "the handler",
}


def main() -> None:
    """Profile W1 while it runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--nodes", type=int, default=6000)
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--bundles", action="store_true")
    parser.add_argument("--report", type=Path, help="write the tables to this Markdown file")
    options = parser.parse_args()
    with Servers() as servers:
        redis = servers.redis()
        os.environ |= {
            "BENCH_BROKER": redis if options.broker == "redis" else servers.rabbitmq(),
            "BENCH_POSTGRES": servers.postgres(),
            "BENCH_TICKS": str(servers.folder / "ticks"),
            "BENCH_POOL": "prefork",
            "BENCH_CONCURRENCY": "2",
        }
        text = _profile(options, servers.folder)
    print(text)
    if options.report:
        options.report.write_text(text)


def _profile(options: argparse.Namespace, folder: Path) -> str:
    from benchmarks.cost import make_database

    make_database()
    from backbeat_celery import signal_many
    from benchmarks.ours.project import app, check, started_worker
    from benchmarks.ours.tasks import bundled, nothing

    task = bundled if options.bundles else nothing
    with started_worker() as worker:
        signature = task.s().set(queue="load")
        for start in range(0, options.nodes, 500):
            numbers = range(start, min(start + 500, options.nodes))
            signal_many([(signature, {"subject": str(number)}) for number in numbers])
        main_pid = worker.process.pid
        pids = {"main process": main_pid, "child": children_of(main_pid)[-1]}
        app.control.add_consumer("load")
        wait_for_ticks(200)
        spies = {name: _spy(pid, folder / f"{pid}.txt") for name, pid in pids.items()}
        wait_for_ticks(options.nodes - 100)
        for spy in spies.values():
            spy.send_signal(2)
            spy.wait(timeout=60)
        texts = {name: (folder / f"{pid}.txt").read_text() for name, pid in pids.items()}
        wait_for_ticks(options.nodes)
    check(options.nodes)
    load = os.getloadavg()[0]
    title = f"# Where the time goes: W1, {options.broker}, prefork 2, {options.nodes} nodes"
    lines = [title, "", f"* load (`uptime`, one minute): {load:.1f}", ""]
    for name, text in texts.items():
        lines += _tables(name, text)
    return "\n".join(lines)


def _spy(pid: int, path: Path) -> subprocess.Popen[bytes]:
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid)]
    command += ["--format", "raw", "--rate", "200", "--nolineno", "--output", str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _tables(name: str, text: str) -> list[str]:
    parts: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    total = 0
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [match for frame in stack.split(";") if (match := FRAME.match(frame))]
        if not frames or frames[-1]["function"].endswith(".wait"):
            continue  # threads that wait for their time
        total += int(count)
        parts[_part(frames[-1]["file"])] += int(count)
        ours = {f"{_name(f['file'])}.{f['function']}" for f in frames if _is_shown(f["file"])}
        for step in ours:
            steps[step] += int(count)
    shown = [f"## {name}", "", "| itself in | share |", "| --- | --- |"]
    shown += [f"| {part} | {100 * n / total:.0f} % |" for part, n in parts.most_common(MOST)]
    shown += ["", "| function, with what it calls | share |", "| --- | --- |"]
    shown += [
        f"| `{step}` | {100 * n / total:.0f} % |"
        for step, n in steps.most_common()
        if 0.02 <= n / total <= 0.85  # what is above is the start of the process
    ][: 2 * MOST]
    return [*shown, ""]


def _part(file: str) -> str:
    words = file.replace("-", "_").split("/")
    for package, part in PARTS.items():
        if any(word.startswith(package) for word in words):
            return part
    return "Python's library"


def _is_shown(file: str) -> bool:
    return any(word in file for word in ("backbeat_celery/", "celery/", "kombu/", "billiard/"))


def _name(file: str) -> str:
    return file.removesuffix(".py").rpartition("site-packages/")[2].replace("/", ".")


if __name__ == "__main__":
    main()
