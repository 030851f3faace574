"""Kill a worker process at a named point of the engine, once in a run.

`BACKBEAT_TEST_DIE_AT` names the point, `BACKBEAT_TEST_DIE_FILE` a file that the first one to
get there creates, and `BACKBEAT_TEST_DIE` whether the child or its whole worker is killed.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

from backbeat_celery.runtime import failpoints

_stack = ExitStack()


def install() -> None:
    """Watch for the point, if the environment names one."""
    if os.environ.get("BACKBEAT_TEST_DIE_AT"):
        _stack.enter_context(failpoints.watched(_die_at))


def _die_at(name: str) -> None:
    if name != os.environ["BACKBEAT_TEST_DIE_AT"]:
        return
    try:
        os.close(os.open(os.environ["BACKBEAT_TEST_DIE_FILE"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    if os.environ.get("BACKBEAT_TEST_DIE") == "worker":
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
