"""The world outside of the tasks: a folder that every process of a test knows.

What tasks have done is noted in it, line by line, and it says what is broken there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = "BACKBEAT_TEST_WORLD"
"""The variable of the environment that names the folder."""


def folder() -> Path:
    """Give the folder of this run."""
    return Path(os.environ[FOLDER])


def note(what: str, *values: Any) -> None:
    """Note that a task has done something."""
    line = json.dumps([what, *values], default=str) + "\n"
    with (folder() / "notes").open("a") as file:
        file.write(line)


def notes(what: str | None = None) -> list[Any]:
    """Give what was noted, in order; of one kind without its name."""
    path = folder() / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return found if what is None else [values for name, *values in found if name == what]


def put(name: str, value: Any) -> None:
    """Set how something is in the world."""
    (folder() / f"{name}.json").write_text(json.dumps(value))


def get(name: str, default: Any = None) -> Any:
    """Tell how something is in the world."""
    path = folder() / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else default


def clear() -> None:
    """Forget everything."""
    for path in folder().iterdir():
        path.unlink()
