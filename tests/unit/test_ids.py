"""Time-ordered ids: they sort, they are version 7, they never meet."""

from __future__ import annotations

import os
import threading
import time
from uuid import RFC_4122

from backbeat_celery.runtime import ids
from backbeat_celery.runtime.ids import uuid7


def test_ids_sort_in_the_order_they_are_made():
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_the_id_says_its_version_and_its_time():
    before = time.time_ns() // 1_000_000
    made = uuid7()
    assert (made.version, made.variant) == (7, RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000 + 1


def test_ids_sort_even_if_the_clock_is_set_back(monkeypatch):
    before = uuid7()
    monkeypatch.setattr(ids.time, "time_ns", lambda: 0)
    assert before < uuid7() < uuid7()


def test_threads_never_make_the_same_id():
    made: list = []

    def work() -> None:
        made.extend([uuid7() for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16_000


def _ids_of_a_child() -> set[bytes]:
    """Fork; the child writes its ids to a pipe and leaves without cleaning up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(uuid7().bytes for _ in range(100)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return {data[i : i + 16] for i in range(0, len(data), 16)}


def test_a_forked_child_makes_other_ids():
    child = _ids_of_a_child()
    mine = {uuid7().bytes for _ in range(100)}
    assert len(child) == 100
    assert not child & mine


def test_a_fork_while_another_thread_makes_ids_does_not_hang():
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            uuid7()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        children = [_ids_of_a_child() for _ in range(10)]
    finally:
        stop.set()
        thread.join()
    assert len(set().union(*children)) == 1000
