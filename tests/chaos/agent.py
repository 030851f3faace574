"""What the harness puts into each worker process: it obeys flags, which are files in a folder.

`sweepers_off` stops every sweeper, `mute-WORKER` the renewals of one worker. `armed` holds a
fault for one point of the engine, for whoever gets there first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.db import OperationalError, connections, transaction

from backbeat_celery.runtime import failpoints

FLAGS = "BACKBEAT_CHAOS_FLAGS"
NAME = "BACKBEAT_CHAOS_WORKER"
SKEW = "BACKBEAT_CHAOS_SKEW"
SICK = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}
_stack = ExitStack()


class Stopped(Exception):
    """The harness has stopped this thread's work for a while."""


def install() -> None:
    """Watch the engine's points, if the harness has started this process."""
    if os.environ.get(FLAGS):
        # Half of the workers go statement by statement, and die between two of them; the
        # others send in one piece what production does.
        inside = zlib.crc32(os.environ.get(NAME, "").encode()) % 2 == 0
        _stack.enter_context(failpoints.watched(_reached, in_transactions=inside))
    if skew := float(os.environ.get(SKEW) or 0):
        _skew_clock(skew)


def _reached(name: str) -> None:
    flags = Path(os.environ[FLAGS])
    if name.startswith("sweep_") and (flags / "sweepers_off").exists():
        raise Stopped("The harness has stopped every sweeper.")
    if name == "before_renewal" and (flags / f"mute-{os.environ[NAME]}").exists():
        raise Stopped("The harness has blocked the renewals of this worker.")
    if (flags / f"armed-{name}").exists():
        _strike(flags / f"armed-{name}")


def _strike(armed: Path) -> None:
    mine = armed.with_name(f"struck-{os.getpid()}-{time.monotonic_ns()}")
    try:
        armed.rename(mine)
    except FileNotFoundError:
        return  # another process was here first
    fault: dict[str, Any] = json.loads(mine.read_text())
    match fault["kind"]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill_worker":
            os.killpg(os.getpgid(0), signal.SIGKILL)
        case "lose answer":
            _lose_next_answer()
        case "exception":
            raise OperationalError("the harness says so")
        case "sick":
            _spoil_session()
        case "sleep":
            time.sleep(fault["seconds"])


def _spoil_session() -> None:
    """Leave a session that answers and cannot write any more, as behind a demoted server."""
    with connections["default"].cursor() as cursor:
        cursor.execute(SICK[connections["default"].vendor])


def _lose_next_answer() -> None:
    """Let the next commit of this process be done, and its caller hear of a broken connection."""
    leave = transaction.Atomic.__exit__

    def exit_(atomic: Any, kind: Any, *rest: Any) -> None:
        leave(atomic, kind, *rest)
        if kind is None and not connections[atomic.using or "default"].in_atomic_block:
            transaction.Atomic.__exit__ = leave  # type: ignore[method-assign]
            raise OperationalError("done, but the answer was lost")

    transaction.Atomic.__exit__ = exit_  # type: ignore[method-assign]
    _lose_next_piece()


def _lose_next_piece() -> None:
    """The same for what is sent past Django's transactions."""
    try:
        from backbeat_celery.sql import driver
    except ImportError:
        return
    execute = driver.execute

    def execute_(*arguments: Any) -> Any:
        execute(*arguments)
        driver.execute = execute
        raise OperationalError("done, but the answer was lost")

    driver.execute = execute_


def _skew_clock(seconds: float) -> None:
    """Let this process believe in another time of day, where nothing is preloaded for that."""
    if "skew" in os.environ.get("LD_PRELOAD", ""):
        return
    real = time.time
    time.time = lambda: real() + seconds  # type: ignore[assignment]
    print(f"The clock is {seconds} s ahead.", file=sys.stderr)
