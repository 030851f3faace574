"""An earlier revision as a contestant: `python -m benchmarks w1 w2 --against REVISION`.

It runs in turns with today's code, on the same servers, with tables of its own.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.plan import Goal, Workload
from benchmarks.servers import python

BEFORE = "before_"
"""Begins the name of a contestant of the earlier revision."""

DATABASE = "backbeat_before"
LEAST = 0.97


class Earlier:
    """The code of a revision, unpacked into a folder of its own."""

    def __init__(self, revision: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder / "earlier"
        archive = subprocess.run(
            ["git", "archive", "--format=tar", revision], capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(self.folder, filter="data")
        self.environment = {
            **environment,
            "PYTHONPATH": str(self.folder),
            "BENCH_DATABASE": DATABASE,
        }
        subprocess.run(
            python("-m", "django", "migrate", "-v0"),
            cwd=self.folder,
            env=self.environment,
            check=True,
        )


def with_earlier(workload: Workload) -> Workload:
    """The workload with each contestant of ours beside its earlier self."""
    ours = [n for n in workload.contestants if n.startswith("ours") and not n.endswith("_full")]
    return replace(
        workload,
        contestants=(*workload.contestants, *(BEFORE + name for name in ours)),
        goals=(*workload.goals, *(Goal(name, BEFORE + name, at_least=LEAST) for name in ours)),
    )
