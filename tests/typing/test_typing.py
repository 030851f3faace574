"""What a project's type checker says of the public names: all that is wrong, and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

import pytest

from tests.typing import checkers
from tests.typing.checkers import Errors

NAMES = ("passes.py", "fails.py")
WITH_STUBS = "passes_celery_types.py"
MYPY = {"plugin.ini": True, "without_plugin.ini": True, "without_celery_types.ini": False}
"""Configurations of mypy, and whether `celery-types` is there."""

WANTED = ("mypy", "pyright", "mypy_django_plugin", "celery-stubs")

if missing := [name for name in WANTED if find_spec(name) is None]:
    text = f"{', '.join(missing)} not installed: pip install -e .[types]"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text, allow_module_level=True)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a type checker found, by file and line."""

    has_stubs: bool
    errors: dict[str, Errors]


@pytest.fixture(params=MYPY.items(), ids=MYPY)
def mypy(request: pytest.FixtureRequest) -> Findings:
    config, has_stubs = request.param
    return Findings(has_stubs, checkers.mypy(files(has_stubs), config))


@pytest.fixture(params=[True, False], ids=["celery-types", "without"])
def pyright(request: pytest.FixtureRequest) -> Findings:
    return Findings(request.param, checkers.pyright(files(request.param), request.param))


def files(has_stubs: bool) -> tuple[str, ...]:
    return (*NAMES, WITH_STUBS) if has_stubs else NAMES


def test_mypy_finds_no_fault_in_what_may_be_written(mypy: Findings) -> None:
    assert passing(mypy) == {}


def test_mypy_finds_each_marked_line_and_no_other(mypy: Findings) -> None:
    wanted = {
        line: mark.mypy
        for line, mark in checkers.marks("fails.py").items()
        if mypy.has_stubs or not mark.needs_stubs
    }
    assert differences(mypy.errors["fails.py"], wanted) == {}


def test_pyright_finds_no_fault_in_what_may_be_written(pyright: Findings) -> None:
    assert passing(pyright) == {}


def test_pyright_finds_each_marked_line_and_no_other(pyright: Findings) -> None:
    wanted = {line: mark.pyright for line, mark in checkers.marks("fails.py").items()}
    assert differences(pyright.errors["fails.py"], wanted) == {}


def test_every_mark_is_understood() -> None:
    """A mark with a slip in it would be a line that nobody looks for."""
    lines = (checkers.HERE / "fails.py").read_text().splitlines()
    assert sum("# error" in line for line in lines) == len(checkers.marks("fails.py")) > 0


def passing(findings: Findings) -> dict[str, Errors]:
    """What was found in files in which nothing is to be found."""
    return {
        name: errors for name, errors in findings.errors.items() if errors and name != "fails.py"
    }


def differences(found: Errors, wanted: dict[int, str]) -> dict[int, tuple[str | None, set[str]]]:
    """By line: what was wanted there, and what was found instead."""
    return {
        line: (wanted.get(line), found.get(line, set()))
        for line in found.keys() | wanted.keys()
        if wanted.get(line) not in found.get(line, set())
    }
