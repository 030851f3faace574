"""The files of Celery's own tests, and which of them are run."""

from __future__ import annotations

import argparse
import ast
import hashlib
import random
import shutil
import subprocess
import tarfile
import tempfile
import venv
from pathlib import Path

from tests.canvas.classes import COUNTS, HURRIED, LONG, NAMED, counts, of_class

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


def names(suite: Path) -> list[str]:
    """All tests of the suite, as `test_group::test_name`."""
    tree = ast.parse((suite / "t/integration/test_canvas.py").read_text())
    return [
        f"{kind.name}::{function.name}"
        for kind in tree.body
        if isinstance(kind, ast.ClassDef) and kind.name.startswith("test_")
        for function in kind.body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
    ]


def counted(suite: Path) -> list[str]:
    """All tests of the suite, if each class has as many of them as it should."""
    known = names(suite)
    found, unknown = counts(known), NAMED - set(known)
    if found != COUNTS or unknown:
        raise SystemExit(f"The suite is not the one that was sorted: {found}, {sorted(unknown)}.")
    return known


def chosen(known: list[str], options: argparse.Namespace) -> list[str]:
    """The tests that are run, in their order; drawn ones in an order by chance."""
    tests = [test for wanted in options.classes for test in of_class(known, wanted)]
    words = options.word.split(",")
    tests = [test for test in tests if any(word in test for word in words)]
    if options.minutes:
        tests = [test for test in tests if test not in LONG and test not in HURRIED]
    if options.sample or options.minutes:
        print(f"drawn with --seed {options.seed}", flush=True)
        tests = random.Random(options.seed).sample(tests, len(tests))[: options.sample]
    else:
        # The long ones begin first, one in each process, so that none is left for the end.
        tests.sort(key=lambda test: -LONG.get(test, 0))
    return tests
