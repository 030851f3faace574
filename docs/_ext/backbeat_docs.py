"""What the pages need besides MyST and autodoc.

* `command-help`: what `manage.py NAME --help` says.
* Generated reports are found by links, and not in the navigation.
* Names of our exceptions in docstrings are links.
"""

from __future__ import annotations

import re
from typing import Any

from django.core.management import get_commands, load_command_class
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from backbeat_celery import exceptions
from backbeat_celery.exceptions import BackbeatError

GENERATED = ("benchmarks/", "chaos/")
CLASSES = [thing for thing in vars(exceptions).values() if isinstance(thing, type)]
NAMES = "|".join(cls.__name__ for cls in CLASSES if issubclass(cls, BackbeatError))
EXCEPTION = re.compile(rf"(?<![`.\w])({NAMES})\b(?!`)")


class CommandHelp(SphinxDirective):
    """Show a command's help."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make a block of what the command's parser says of itself."""
        name = self.arguments[0]
        command = load_command_class(get_commands()[name], name)
        text = command.create_parser("manage.py", name).format_help()
        return [nodes.literal_block(text, text, language="text")]


def leave_out_of_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let generated reports stand in no toctree."""
    del source
    if docname.startswith(GENERATED):
        app.env.metadata[docname]["orphan"] = True


def link_exceptions(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Make links of the exceptions that a docstring names."""
    del app, what, name, obj, options
    for index, line in enumerate(lines):
        lines[index] = EXCEPTION.sub(r":exc:`~backbeat_celery.exceptions.\1`", line)


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of these."""
    app.connect("source-read", leave_out_of_navigation)
    app.connect("autodoc-process-docstring", link_exceptions)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
