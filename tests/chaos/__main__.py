"""`python -m tests.chaos`: one run of the harness, from servers to verdict."""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

from tests.chaos.profiles import KINDS, PROFILES, Profile, at_point


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="backbeat-chaos-"))
    folder.chmod(0o755)
    is_good = False
    try:
        is_good = _run(arguments, folder)
    finally:
        if is_good and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"Logs and data are in {folder}.")
    return 0 if is_good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--db", choices=["postgres", "mariadb", "sqlite"], default="postgres")
    parser.add_argument("--broker", choices=["redis", "rabbitmq", "embedded"], default="redis")
    parser.add_argument("--sample", type=int, help="faults at points: so many, drawn by the seed")
    parser.add_argument("--nodes", type=int, help="size of a run whose faults come by the clock")
    parser.add_argument("--seconds", type=float, help="length of a soak")
    parser.add_argument("--report", type=Path, help="write the report to this file, too")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of a good run")
    return parser.parse_args()


def _profile(arguments: argparse.Namespace) -> Profile:
    profile = PROFILES[arguments.profile]
    if arguments.profile == "points":
        from tests.chaos.places import IN_WORKERS

        every = [at_point(kind, point) for kind in KINDS for point in IN_WORKERS]
        count = min(arguments.sample or len(every), len(every))
        drawn = random.Random(arguments.seed).sample(every, count)
        return replace(profile, faults=dict.fromkeys(drawn, 1), nodes=max(600, 15 * count))
    if arguments.nodes:
        profile = replace(profile, nodes=arguments.nodes)
    return replace(profile, seconds=arguments.seconds) if arguments.seconds else profile


def _run(arguments: argparse.Namespace, folder: Path) -> bool:
    from tests import services
    from tests.chaos.arena import Arena
    from tests.chaos.services import Missing

    profile = _profile(arguments)
    try:
        arena = Arena(profile, arguments.seed, arguments.db, arguments.broker, folder)
    except Missing as exc:
        services.missing(str(exc))
    try:
        arena.tell(f"servers are up; everything is in {folder}")
        return _play(arena, arguments)
    finally:
        arena.stop()


def _play(arena: object, arguments: argparse.Namespace) -> bool:
    # Only now is Django set up, which these need.
    from tests.chaos.audit import audit
    from tests.chaos.evidence import Evidence, read_values
    from tests.chaos.purge import PurgeRun
    from tests.chaos.report import Report
    from tests.chaos.run import Run
    from tests.chaos.watch import ask
    from tests.stateful.invariants import Rows

    profile = _profile(arguments)
    kind = {"purge": PurgeRun}.get(arguments.profile, Run)
    outcome = kind(arena, profile, arguments.seed).play()
    arena.fleet.stop()
    arena.tell("workers are stopped; auditing")
    effects = Counter(name[:36] for (name,) in ask("SELECT name FROM auth_group"))
    rows = Rows()
    evidence = Evidence(
        rows,
        arena.log.lines(),
        outcome.labels,
        effects,
        outcome.pauses,
        outcome.reports,
        outcome.closed,
        outcome.crashes,
        outcome.canvases,
        read_values(rows),
    )
    report = Report(profile, outcome, evidence, audit(evidence))
    print(f"\n{report.text()}")
    report.save(arena.folder / "report.json")
    if arguments.report:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        arguments.report.write_text(_heading(arguments) + report.text())
    return report.is_good


def _heading(arguments: argparse.Namespace) -> str:
    """What is needed to see the same again."""
    command = f"python -m tests.chaos --profile {arguments.profile} --seed {arguments.seed}"
    if arguments.sample:
        command += f" --sample {arguments.sample}"
    if arguments.nodes:
        command += f" --nodes {arguments.nodes}"
    command += f" --db {arguments.db} --broker {arguments.broker}"
    versions = [f"{name} {version(name)}" for name in ("celery", "kombu", "django")]
    return (
        f"# Chaos: profile {arguments.profile}\n\n"
        f"```sh\n{command}\n```\n\n"
        f"Ended on {date.today()}, on {os.cpu_count()} cores with a load of "
        f"{os.getloadavg()[2]:.1f} in the last 15 minutes, what else ran there included; "
        f"Python {platform.python_version()}, {', '.join(versions)}.\n\n"
    )


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    sys.exit(main())
