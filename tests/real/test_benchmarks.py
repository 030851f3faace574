"""The benchmarks run and check their own work; how fast anything is plays no part here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.plan import WORKLOADS
from benchmarks.servers import Missing, Servers
from tests import pace, services

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    services.database_kind() != "sqlite", reason="the benchmarks start databases of their own"
)


@pytest.fixture(scope="module", autouse=True)
def servers() -> None:
    with Servers() as found:
        try:
            found.postgres()
            found.redis()
        except Missing as exc:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(exc))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_workload_completes_all_nodes_and_writes_a_report(workload, tmp_path):
    report = tmp_path / "report.md"
    command = [sys.executable, "-m", "benchmarks", workload, "--rounds", "1", "--report", report]
    # Few nodes, and of the peers those that need nothing else installed.
    size = max(8 / WORKLOADS[workload].size, 0.0002)
    command += ["--scale", str(size), "--finished", "1000", "--peers", "celery,chord_redis"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=pace.allowed(300)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = report.read_text()
    for name in WORKLOADS[workload].contestants:
        assert f"| {name} |" in text or not name.startswith(("ours", "celery"))


def test_worker_settings_are_measured_side_by_side(tmp_path):
    """With this one a worker once waited for a timer, up to 5 s, after each node.

    A round is given up when thirty nodes take longer than 90 s.
    """
    row, report = "prefork -c 1 prefetch 1 quiet", tmp_path / "report.md"
    command = [sys.executable, "-m", "benchmarks", "settings", "--only", row]
    command += ["--size", "30", "--rounds", "1", "--report", report]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=pace.allowed(300)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in report.read_text().splitlines() if line.startswith(f"| {row}")]
    assert "not measured" not in line


@pytest.mark.parametrize(
    "command",
    [
        ["benchmarks.cost", "--nodes", "8", "--idle", "0.1"],
        ["benchmarks.shards", "--workflows", "8", "--children", "2", "--rounds", "1"],
    ],
    ids=lambda command: command[0],
)
def test_measurements_for_planning_run(command):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=pace.allowed(300),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stdout
