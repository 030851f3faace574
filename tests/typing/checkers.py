"""Run mypy and pyright on a file as a project would, and read what they find."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

_FOUND = re.compile(r"^(?:.*/)?(?P<file>\w+\.py):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$")
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


def mypy(config: str, names: tuple[str, ...]) -> dict[str, Errors]:
    """Give what mypy finds in each file with one of the configurations beside this module."""
    paths = [str((HERE / name).relative_to(ROOT)) for name in names]
    done = _run(
        "mypy",
        *("--config-file", str(HERE / config), "--no-error-summary", "--hide-error-context"),
        *("--cache-dir", str(ROOT / ".mypy_cache" / config), *paths),
        cwd=ROOT,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    errors: dict[str, Errors] = {name: {} for name in names}
    for line in done.stdout.splitlines():
        if ": error: " in line:
            match = _FOUND.match(line)
            assert match and match["file"] in errors, done.stdout
            errors[match["file"]].setdefault(int(match["line"]), set()).add(match["code"])
    return errors


def pyright(where: Path, names: tuple[str, ...], *, has_stubs: bool) -> dict[str, Errors]:
    """Give what pyright finds in copies of the files, made in an empty directory."""
    for name in names:
        shutil.copy(HERE / name, where)
    config: dict[str, Any] = {
        "include": list(names),
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
    }
    arguments = ["--outputjson", "--project", "."]
    if has_stubs:
        arguments += ["--pythonpath", sys.executable]
    else:
        _link_packages(
            where / "venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        )
        config |= {"venvPath": ".", "venv": "venv"}
    (where / "pyrightconfig.json").write_text(json.dumps(config))
    done = _run("pyright", *arguments, cwd=where)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(names), report["summary"]
    errors: dict[str, Errors] = {name: {} for name in names}
    for told in report["generalDiagnostics"]:
        line = told["range"]["start"]["line"] + 1
        codes = errors[Path(told["file"]).name].setdefault(line, set())
        codes.add(told.get("rule", told["message"]))
    return errors


def _link_packages(library: Path) -> None:
    """Make an environment that has all that this one has, but for `celery-types`."""
    stubs = distribution("celery-types")
    left_out = {file.parts[0] for file in stubs.files or ()}
    packages = library / "site-packages"
    packages.mkdir(parents=True)
    for path in Path(str(stubs.locate_file(""))).iterdir():
        if path.name not in left_out:
            (packages / path.name).symlink_to(path)


def _run(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # pyright's wrapper asks the registry for a newer version unless it is told not to.
    env: Mapping[str, str] = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
