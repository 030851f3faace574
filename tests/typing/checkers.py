"""Run mypy and pyright on a file as a project would, and read what they find."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

_FOUND = re.compile(r"^(?P<file>\w+\.py):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$")
_MARK = re.compile(r"# error: (?P<mypy>[\w-]+), (?P<pyright>\w+)(?P<stubs>; celery-types)?$")

Errors = dict[int, set[str]]
"""Codes of what was found, by line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to be found on one line."""

    mypy: str
    pyright: str
    needs_stubs: bool


def marks(name: str) -> dict[int, Mark]:
    """Read the marks of a file, by line."""
    lines = (HERE / name).read_text().splitlines()
    found = {number: _MARK.search(line) for number, line in enumerate(lines, start=1)}
    return {
        number: Mark(match["mypy"], match["pyright"], bool(match["stubs"]))
        for number, match in found.items()
        if match
    }


@cache
def mypy(names: tuple[str, ...], config: str) -> dict[str, Errors]:
    """Give what mypy finds with one of the configurations beside this module."""
    # Two processes cannot share a cache.
    cache_dir = ROOT / ".mypy_cache" / config / os.environ.get("PYTEST_XDIST_WORKER", "")
    arguments = ["--config-file", str(HERE / config), "--cache-dir", str(cache_dir), *names]
    with _project(names) as where:
        text = _run("mypy", "--no-error-summary", *arguments, cwd=where)
    errors: dict[str, Errors] = {name: {} for name in names}
    for line in text.splitlines():
        if ": error: " in line:
            match = _FOUND.match(line)
            assert match and match["file"] in errors, text
            errors[match["file"]].setdefault(int(match["line"]), set()).add(match["code"])
    return errors


@cache
def pyright(names: tuple[str, ...], has_stubs: bool) -> dict[str, Errors]:
    """Give what pyright finds, in an environment with `celery-types` or in one without."""
    config: dict[str, Any] = {
        "include": list(names),
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
    }
    with _project(names) as where:
        if has_stubs:
            python = ["--pythonpath", sys.executable]
        else:
            python = []
            _link_packages(where / "venv")
            config |= {"venvPath": ".", "venv": "venv"}
        (where / "pyrightconfig.json").write_text(json.dumps(config))
        report = json.loads(_run("pyright", "--outputjson", *python, cwd=where))
    assert report["summary"]["filesAnalyzed"] == len(names), report["summary"]
    errors: dict[str, Errors] = {name: {} for name in names}
    for told in report["generalDiagnostics"]:
        line = told["range"]["start"]["line"] + 1
        codes = errors[Path(told["file"]).name].setdefault(line, set())
        codes.add(told.get("rule", told["message"]))
    return errors


@contextmanager
def _project(names: tuple[str, ...]) -> Iterator[Path]:
    """Copy the files to a directory of their own, so that they are a project which uses ours."""
    with TemporaryDirectory() as folder:
        for name in names:
            shutil.copy(HERE / name, folder)
        yield Path(folder)


def _link_packages(venv: Path) -> None:
    """Make an environment that has all that this one has, but for `celery-types`."""
    stubs = distribution("celery-types")
    left_out = {file.parts[0] for file in stubs.files or ()}
    packages = venv / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    packages.mkdir(parents=True)
    for path in Path(str(stubs.locate_file(""))).iterdir():
        if path.name not in left_out:
            (packages / path.name).symlink_to(path)


def _run(module: str, *arguments: str, cwd: Path) -> str:
    env = {
        **os.environ,
        **dict.fromkeys(("PYTHONPATH", "MYPYPATH"), str(ROOT)),
        # pyright's wrapper asks the registry for a newer version unless it is told not to.
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",
    }
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: something was found
    return done.stdout
