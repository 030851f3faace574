"""An earlier version of the package, as a wheel in a virtual environment of its own.

Its workers run beside those of this version, on the same tables: it is forty commits back, or
fewer if migrations have changed since. The handlers are the harness's of today.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
from functools import cache
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".tox"
MIGRATIONS = "backbeat_celery/migrations"
BACK = 40
"""Commits between the two versions."""


def earlier() -> str:
    """A commit of a while ago, on whose tables today's package works."""
    changed = _git("log", "-1", "--format=%H", f"HEAD~{BACK}..HEAD", "--", MIGRATIONS)
    return changed.decode().strip() or _git("rev-parse", f"HEAD~{BACK}").decode().strip()


@cache
def python(commit: str) -> Path:
    """The Python of an environment with that commit's wheel, made at first use and kept."""
    number = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = CACHE / f"previous-{commit[:12]}-py{number}"
    found = home / "bin" / "python"
    if not (home / "complete").exists():
        CACHE.mkdir(exist_ok=True)
        venv.create(home, with_pip=True, clear=True)
        source = home / "source"
        with tarfile.open(fileobj=BytesIO(_git("archive", "--format=tar", commit))) as archive:
            archive.extractall(source, filter="data")
        _run(str(found), "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(home), source)
        (wheel,) = home.glob("*.whl")
        wanted = [f"{wheel}[demo]", "psycopg[binary]", "pymysql"]
        _run(str(found), "-m", "pip", "install", "--quiet", *wanted)
        (home / "complete").touch()
    return found


def folder_of_tests(folder: Path) -> Path:
    """A folder to start an earlier version's worker in: with the tests, and no package."""
    place = folder / "previous"
    if not place.exists():
        place.mkdir()
        (place / "tests").symlink_to(ROOT / "tests")
    return place


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
