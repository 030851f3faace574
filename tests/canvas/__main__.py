"""Run Celery's canvas tests on plain Celery and on nodes, and print both columns.

The tests come from the source distribution that `pip download` fetches. The command ends with 1
unless all of class A pass in each column that was run, and 24 of class B on nodes.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.canvas.classes import class_of
from tests.canvas.column import TITLES, Column, shortcomings, table
from tests.canvas.common import SEED, UNTIL
from tests.canvas.processes import Plan, run
from tests.canvas.suite import chosen, counted, unpack
from tests.canvas.surroundings import may_use_rabbitmq


def main() -> int:
    options = _options()
    # As after a Ctrl-C, the processes, servers and databases of the run end with it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="backbeat-canvas-") as folder:
        suite = unpack(Path(folder), options.cache)
        tests = chosen(counted(suite), options)
        codes = [_round(suite, tests, options, number) for number in range(options.rounds)]
    return max(codes)


def _round(suite: Path, tests: Sequence[str], options: argparse.Namespace, number: int) -> int:
    extra, plugins = {}, ()
    if options.minutes:
        extra[UNTIL] = str(time.time() + 60 * options.minutes)
    if options.kill:
        print(f"killed with --seed {options.seed}, round {number + 1}", flush=True)
        extra[SEED], plugins = f"{options.seed} {number}", ("tests.canvas.outside",)
    plan = Plan(suite, options.broker, options.jobs, plugins, extra, options.verbose)
    columns: dict[str, Column] = {}
    for beside in [options.columns] if options.at_once else [[c] for c in options.columns]:
        columns |= run(plan, beside, tests)
    if options.minutes:
        begun = {test for column in columns.values() for test in column.outcomes}
        tests = [test for test in tests if test in begun]
    return report(tests, columns, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.canvas", description=__doc__)
    parser.add_argument("--columns", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--classes", default="AB", help="which classes, such as A or AB")
    parser.add_argument("--sample", type=int, help="run that many tests, drawn by chance")
    parser.add_argument("--minutes", type=float, help="draw tests until that time is over")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("-k", dest="word", default="", help="words, one of which is in a name")
    parser.add_argument("--jobs", type=int, default=2, help="processes of a column")
    parser.add_argument("--at-once", action="store_true", help="run the columns together")
    parser.add_argument("--kill", action="store_true", help="kill a worker's child in each test")
    parser.add_argument("--rounds", type=int, default=1, help="repeat it all")
    found = "rabbitmq" if may_use_rabbitmq() else "redis"
    parser.add_argument("--broker", choices=("rabbitmq", "redis"), default=found)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--reasons", type=Path, help="write the whole reason of each failure there"
    )
    parser.add_argument("--slowest", type=int, default=0, help="show that many tests' times")
    parser.add_argument("--verbose", action="store_true", help="show all that pytest prints")
    return parser.parse_args()


def report(
    tests: Sequence[str], columns: Mapping[str, Column], options: argparse.Namespace
) -> int:
    """Print the table and what failed; give 1 if that is not enough."""
    print(table(tests, columns))
    for name, column in columns.items():
        if options.kill:
            counts = ", ".join(f"{count} {was}" for was, count in sorted(column.killed.items()))
            print(f"{TITLES[name]}: killed children: {counts}")
        for test, said in column.missed(tests):
            print(f"{TITLES[name]}: {class_of(test)} {test}: {said}")
            if options.verbose:
                print(column.reasons.get(test, ""))
        for test in sorted(column.times, key=lambda one: -column.times[one])[: options.slowest]:
            print(f"{TITLES[name]}: {test} took {column.times[test]:.0f} s")
    if options.reasons:
        options.reasons.write_text(
            "\n".join(
                f"== {TITLES[name]}: {test}\n{reason}"
                for name, column in columns.items()
                for test, reason in column.reasons.items()
            )
        )
    found = shortcomings(tests, columns, are_killed=options.kill)
    for sentence in found:
        print(sentence)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
