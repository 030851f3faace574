"""Check shell blocks: what is safe is run, the rest is read by the program's own parser."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import metadata
from importlib.util import find_spec
from itertools import pairwise, takewhile

from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.celery import celery as celery_command
from django.core.management import call_command, get_commands, load_command_class
from packaging.requirements import Requirement

from tests.docs.pages import ROOT

SAFE = {"backbeat_doctor", "backbeat_purge", "backbeat_sweep", "backbeat_tree", "check", "migrate"}
"""Commands of manage.py that are run, unless they would not end."""

ENDLESS = {"--loop", "--watch"}
PLACEHOLDER = "…"
"""Stands for a part of an id that the reader has to fill in."""

IN_VENV = re.compile(r"(?:\./)?(?:\S*/)?bin/")
ASSIGNMENT = re.compile(r"[A-Z_]+=")
OWN_PACKAGE = "backbeat-celery"


@dataclass(frozen=True)
class Command:
    """One command of a block, without the environment variables before it."""

    program: str
    words: list[str]


def commands(source: str) -> Iterator[Command]:
    """Read the commands of a block; `&&`, `|` and `;` part them."""
    for line in source.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        for is_operator, words in _split(list(lexer)):
            while words and ASSIGNMENT.match(words[0]):
                words = words[1:]
            if words and not is_operator:
                yield Command(IN_VENV.sub("", words[0]), words[1:])


def _split(tokens: list[str]) -> Iterator[tuple[bool, list[str]]]:
    words: list[str] = []
    for token in tokens:
        if set(token) <= set("&|;"):
            yield False, words
            words = []
        else:
            words.append(token)
    yield False, words


def run(source: str) -> None:
    """Run or check each command of a block."""
    found = list(commands(source))
    assert found, "there is no command in this block"
    for command in found:
        check = PROGRAMS.get(command.program)
        assert check, f"{command.program} is not known to tests/docs/shell.py"
        check(command.words)


def _manage(words: list[str]) -> None:
    name, *options = words
    apps = get_commands()
    assert name in apps, f"manage.py has no command {name}"
    load_command_class(apps[name], name).create_parser("manage.py", name).parse_args(options)
    if name in SAFE and not ENDLESS & set(options) and PLACEHOLDER not in "".join(options):
        call_command(name, *options, stdout=io.StringIO(), stderr=io.StringIO())


def _python(words: list[str]) -> None:
    if words[0] == "-m":
        _module(words[1], words[2:])
    elif words[0] == "manage.py":
        _manage(words[1:])
    else:
        assert (ROOT / words[0]).exists(), f"there is no {words[0]}"


def _module(name: str, words: list[str]) -> None:
    if name in PROGRAMS:
        PROGRAMS[name](words)
        return
    if name == "venv":
        return
    assert find_spec(name), f"there is no module {name}"
    help_text = _help(name, *takewhile(lambda word: not word.startswith("-"), words))
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            assert word in help_text, f"{name} has no option {word}"
            choices = re.search(rf"{word} {{(.*?)}}", help_text)
            assert not choices or value in choices[1].split(","), f"{word} {value}"


@cache
def _help(*words: str) -> str:
    """What a module says of its options: those of a subcommand, if one is named."""
    command = [sys.executable, "-m", *words, "--help"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "COLUMNS": "500"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _pip(words: list[str]) -> None:
    assert words[0] in {"install", "uninstall", "download"}, f"pip {words[0]}"
    for word in words[1:]:
        if not word.startswith("-"):
            path, _, extras = word.partition("[") if word.startswith(".") else ("", "", "")
            _requirement(f"{OWN_PACKAGE}[{extras}" if extras else OWN_PACKAGE if path else word)


def _requirement(text: str) -> None:
    requirement = Requirement(text)
    if requirement.name == OWN_PACKAGE:
        known = set(metadata(OWN_PACKAGE).get_all("Provides-Extra") or ())
        assert requirement.extras <= known, f"no extra {requirement.extras - known}"


def _celery(words: list[str]) -> None:
    with celery_command.make_context("celery", list(words)) as context:
        assert context.params["app"], "celery needs -A"
        app = find_app(context.params["app"])
        context.obj = CLIContext(app=app, no_color=True, workdir=None, quiet=True)
        rest = [*context._protected_args, *context.args]
        name, command, rest = celery_command.resolve_command(context, rest)
        with command.make_context(name, rest, parent=context):
            pass


def _tox(words: list[str]) -> None:
    if words[0] in {"list", "l"}:
        return
    assert words[0] in {"run", "r", "run-parallel", "p"}, f"tox {words[0]}"
    chosen = [words[i + 1] for i, word in enumerate(words) if word == "-e"]
    for environment in ",".join(chosen).split(",") if chosen else []:
        assert environment in _tox_environments(), f"tox has no environment {environment}"


@cache
def _tox_environments() -> list[str]:
    command = [sys.executable, "-m", "tox", "list", "--no-desc"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def _pytest(words: list[str]) -> None:
    for word in words:
        path = word.partition("::")[0]
        is_path = not word.startswith("-") and "/" in path
        assert not is_path or (ROOT / path).exists(), f"there is no {path}"


def _psql(words: list[str]) -> None:
    for option, path in pairwise(words):
        assert option != "-f" or (ROOT / path).exists(), f"there is no {path}"


def _nothing(words: list[str]) -> None:
    """Leave alone what concerns the reader's machine."""
    del words


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "manage.py": _manage,
    "./manage.py": _manage,
    "python": _python,
    "python3": _python,
    "pip": _pip,
    "celery": _celery,
    "tox": _tox,
    "pytest": _pytest,
    "psql": _psql,
    "pre-commit": _nothing,
    "apt-get": _nothing,
    ".": _nothing,
    "cd": _nothing,
    "export": _nothing,
    "git": _nothing,
}
