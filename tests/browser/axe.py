"""axe-core, which checks pages for people who see or hear badly: from npm, for tests alone."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests import pace

VERSION = "4.14.1"
FOLDER = Path(__file__).parents[2] / ".axe"
SCRIPT = FOLDER / "node_modules" / "axe-core" / "axe.min.js"


def is_there() -> bool:
    """Whether it is there, or can be fetched."""
    return SCRIPT.exists() or shutil.which("npm") is not None


@cache
def source() -> str:
    """The script, fetched at the first use."""
    if not SCRIPT.exists():
        FOLDER.mkdir(exist_ok=True)
        command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(
            [*command, "--prefix", str(FOLDER), f"axe-core@{VERSION}"],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=pace.allowed(300),
        )
    return SCRIPT.read_text()
