"""The demo's processes end with it, even when it is killed with SIGKILL and cannot stop them."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from celery.signals import beat_init, celeryd_init

PARENT = "BACKBEAT_DEMO_PARENT"
"""In the environment of a process that the demo has started: the demo's process id."""


@beat_init.connect
@celeryd_init.connect
def watch(**_: Any) -> None:
    """In a process of the demo: watch the process that has started it."""
    parent = os.environ.get(PARENT)
    if parent and os.getpgrp() == os.getpid():
        threading.Thread(target=_outlive_not, args=(int(parent),), daemon=True).start()


def _outlive_not(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(os.getpgrp(), signal.SIGKILL)
