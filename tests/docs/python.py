"""Execute Python blocks: code, prompts with their answers, settings and tests."""

from __future__ import annotations

import ast
import doctest
import inspect
import itertools
import re
import textwrap
import unittest
from collections.abc import Callable, Collection, Iterator
from types import ModuleType
from typing import Any
from unittest.mock import patch

from celery.app.defaults import DEFAULTS
from django.db import connections
from django.test import Client, override_settings

from backbeat_celery import signal
from backbeat_celery.checks import check_settings
from backbeat_celery.models import Node
from tests.docs.pages import Block
from tests.docs.project_module import empty_shop, unregister

FILE = re.compile(r"# (?P<folder>\w+)/[\w/]+\.py\b")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
MISTAKES = ("NameError", "AttributeError", "ImportError", "ModuleNotFoundError", "TypeError")
"""Errors by which a handler of a page shows that it is wrong."""

ELSEWHERE = {"backbeat_celery.E004", "backbeat_celery.W004"}
"""Checks of settings that the project of the tests does not share with a page."""


def run(block: Block, module: ModuleType) -> None:
    """Execute a block, then check the settings and run the tests that it defines."""
    if block.source.startswith(">>>"):
        _run_prompts(block, module)
        return
    if block.mark == "in a handler":
        _run_handler(block, module)
        return
    tree = ast.parse(block.source)
    names = set(_defined(tree))
    unregister(names)
    if file := FILE.match(block.source):
        module.__package__ = file["folder"]
    code = compile("\n" * block.line + block.source, block.page, "exec", dont_inherit=True)
    exec(code, module.__dict__)
    module.__package__ = "shop"
    _check_settings(names, module)
    for name in sorted(names):
        _run_tests(name, vars(module)[name])


def check_text(block: Block, module: ModuleType) -> None:
    """Compare a block with the text that its mark names; `…` stands for anything."""
    found = str(eval(block.note, module.__dict__)).rstrip() + "\n"
    expected = block.source.rstrip().replace("…", "...") + "\n"
    if not doctest.OutputChecker().check_output(expected, found, FLAGS):
        raise AssertionError(f"{block.note} is\n{found}")


def mistakes() -> list[str]:
    """The errors of handlers that failed because of what their page says."""
    failed = Node.objects.exclude(error=None)
    return [f"{node.task}: {node.error}" for node in failed if node.error.startswith(MISTAKES)]


def _defined(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (n.id for n in statement.targets if isinstance(n, ast.Name))


def _run_handler(block: Block, module: ModuleType) -> None:
    """Run a block as the body of a handler, which must succeed."""
    name = f"line_{block.line}"
    body = textwrap.indent(block.source, "    ")
    source = "\n" * (block.line - 1) + f"@node_task\ndef {name}():\n{body}"
    exec(compile(source, block.page, "exec", dont_inherit=True), module.__dict__)
    node = signal(vars(module)[name].s(), subject=name)
    vars(module)["sim"].run()
    node.refresh_from_db()
    assert not node.error, node.error


def _run_prompts(block: Block, module: ModuleType) -> None:
    examples = doctest.DocTestParser().get_examples(block.source)
    for example in examples:
        example.want = example.want.replace("…", "...")
    test = doctest.DocTest(examples, {}, str(block), str(block.page), block.line, None)
    test.globs = module.__dict__
    output: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    if runner.run(test, out=output.append, clear_globs=False).failed:
        raise AssertionError("".join(output))


def _check_settings(names: Collection[str], module: ModuleType) -> None:
    """Check what a block writes into the Django settings."""
    if "BACKBEAT" in names:
        with override_settings(BACKBEAT=vars(module)["BACKBEAT"]):
            problems = [p for p in check_settings() if p.id not in ELSEWHERE]
        assert not problems, problems
    for name in names:
        key = name.removeprefix("CELERY_")
        assert key == name or key.lower() in DEFAULTS, f"Celery has no setting {name}"


def _run_tests(name: str, thing: Any) -> None:
    if inspect.isclass(thing) and issubclass(thing, unittest.TestCase):
        _run_test_case(thing)
    elif name.startswith("test_") and inspect.isfunction(thing):
        for values in _cases(thing):
            _run_test(thing, values)


def _run_test_case(case: type[unittest.TestCase]) -> None:
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    assert suite.countTestCases(), f"{case.__name__} has no test"
    # Its end would close the connection, and with it the page's transaction.
    with empty_shop(), patch.object(connections["default"], "close"):
        result = suite.run(unittest.TestResult())
    assert result.wasSuccessful(), [text for _, text in result.failures + result.errors]


def _cases(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """The values of each run that `pytest.mark.parametrize` asks for."""
    axes = []
    for mark in getattr(test, "pytestmark", []):
        assert mark.name in {"parametrize", "django_db"}, f"{mark.name} is not known here"
        if mark.name == "parametrize":
            names, values = mark.args
            keys = [n.strip() for n in names.split(",")]
            axes.append(
                [dict(zip(keys, v if len(keys) > 1 else [v], strict=True)) for v in values]
            )
    for parts in itertools.product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def _run_test(test: Callable[..., None], values: dict[str, Any]) -> None:
    with empty_shop() as sim:
        fixtures = {"backbeat": sim, "db": None, "client": Client(), **values}
        test(**{name: fixtures[name] for name in inspect.signature(test).parameters})
