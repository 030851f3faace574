"""Only `runtime/compat` uses private names of other packages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import backbeat_celery

PACKAGE = Path(backbeat_celery.__file__).parent
DOCUMENTED = {"_meta", "_state", "_base_manager", "_default_manager", "_db"}
"""Django's documentation has these; `_db` in its example of a manager."""
OF_PYTHON = {"_getframe", "_make_iterencode"}
DJANGOS = {"_insert", "_close"}
"""Names of ours as well."""
OURS = {"self", "cls"}
PRIVATE = {"_orig_run", "_decorated", "_decorated_fun", "__header__"}
"""Names of Celery's that are asked for by text."""


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not {"migrations", "compat"} & set(path.relative_to(PACKAGE).parts):
            yield path.relative_to(PACKAGE), ast.parse(path.read_text())


def names_of_ours() -> set[str]:
    """What this package itself defines: functions, classes, variables, attributes of `self`."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, kinds):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found |= {node.attr} if ast.unparse(node.value) in OURS else set()
    return found


def private_names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
        is_pythons = node.attr.endswith("__") and node.attr != "__header__"
        return set() if is_pythons else {node.attr}
    if isinstance(node, ast.Constant) and node.value in PRIVATE:
        return {node.value}
    if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("backbeat_celery"):
        names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        return {name for name in names if name.startswith("_") and not name.startswith("__")}
    return set()


def test_nobody_else_uses_a_private_name():
    known = names_of_ours() - DJANGOS | DOCUMENTED | OF_PYTHON
    used = {
        f"{path}:{getattr(node, 'lineno', 0)}: {name}"
        for path, tree in sources()
        for node in ast.walk(tree)
        for name in private_names(node) - known
    }
    assert not used, "name it in runtime/compat, with a test: see its docstring"
