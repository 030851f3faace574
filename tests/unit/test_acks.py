"""A node's message is acknowledged behind what the children get, and before the loop waits."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from celery.bootsteps import CLOSE, RUN
from celery.concurrency.prefork import TaskPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker.consumer import Consumer
from kombu.asynchronous import Hub
from vine import promise

from backbeat_celery.inputs.message_headers import HEADER
from backbeat_celery.worker import strategy
from backbeat_celery.worker.shutdown import ConnectionLossStep
from tests.workflows import done


class Waits(Exception):
    """The event loop has nothing to do until somebody else acts."""


class Poller:
    """Ask the true poller what there is now; never wait."""

    def __init__(self, poller: Any) -> None:
        self.poller = poller

    def poll(self, timeout: float) -> Any:
        if not (events := self.poller.poll(0)):
            raise Waits
        return events

    def __getattr__(self, name: str) -> Any:
        return getattr(self.poller, name)


class Worker:
    """A worker's event loop with one child, and what happens on it in order."""

    def __init__(self, pool: type, state: int = RUN) -> None:
        self.seen: list[str] = []
        self.hub = Hub()
        self.pipes = [socket.socketpair() for _ in range(2)]
        self.bring_a_poller()
        self.consumer = SimpleNamespace(
            hub=self.hub, pool=object.__new__(pool), blueprint=SimpleNamespace(state=state)
        )

    def bring_a_poller(self) -> None:
        """Let the loop wait for the broker, as it does from each connection on."""
        self.hub.poller = Poller(self.hub.poller)
        self.hub.add_reader(self.pipes[0][0], lambda: None)

    def take(self, name: str = "acknowledged", **headers: Any) -> None:
        """Take a message that is done at once, and acknowledge it in Celery's way."""
        handle = strategy.safe_strategy(done, None, self.consumer)
        ack = promise(self.hub.call_soon, (lambda: self.seen.append(name),))
        headers = {"id": "1", "task": "x", **headers}
        handle(SimpleNamespace(headers=headers, content_type="application/json"), None, ack)

    def give(self) -> None:
        """Write the next message to the child when its pipe has room, as the pool does."""
        child = self.pipes[1][0]

        def write() -> None:
            self.hub.remove_writer(child)
            self.seen.append("given")

        self.hub.on_tick.add(tick := lambda: (self.hub.on_tick.discard(tick), add()))
        add = lambda: self.hub.add_writer(child, write)  # noqa: E731

    def run(self) -> list[str]:
        """Let the loop go on until it waits."""
        with pytest.raises(Waits):
            self.hub.run_forever()
        return self.seen

    def close(self) -> None:
        self.hub.close()
        for pair in self.pipes:
            for end in pair:
                end.close()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    monkeypatch.setattr(strategy, "default_strategy", lambda *_: lambda message, body, ack: ack())
    made: list[Worker] = []

    def make(*args: Any) -> Worker:
        made.append(Worker(*args))
        return made[-1]

    yield make
    for one in made:
        one.close()


def in_an_event(hub: Hub, call: Callable[[], None], pipe: socket.socket) -> None:
    def read() -> None:
        hub.remove(pipe)
        call()

    hub.add_writer(pipe, read)


PLACES = {
    "an event": in_an_event,
    "a timer": lambda hub, call, pipe: hub.call_later(0, call),
    "a callback": lambda hub, call, pipe: hub.call_soon(call),
    "a tick": lambda hub, call, pipe: hub.on_tick.add(
        tick := lambda: (hub.on_tick.discard(tick), call())
    ),
}
"""Where in its round the event loop may be when a child reports."""


@pytest.mark.parametrize("place", PLACES)
def test_it_is_acknowledged_before_the_loop_waits(worker, place):
    one = worker(TaskPool)
    PLACES[place](one.hub, lambda: one.take(backbeat={}), one.pipes[1][1])
    assert one.run() == ["acknowledged"]


def test_the_child_is_given_its_next_message_first(worker):
    one = worker(TaskPool)
    in_an_event(one.hub, lambda: (one.take(backbeat={}), one.give()), one.pipes[1][1])
    assert one.run() == ["given", "acknowledged"]


def test_a_plain_tasks_message_is_acknowledged_as_by_celery(worker):
    one = worker(TaskPool)
    in_an_event(one.hub, lambda: (one.take(), one.give()), one.pipes[1][1])
    assert one.run() == ["acknowledged", "given"]


def test_a_pool_without_children_has_nothing_to_wait_for(worker):
    one = worker(SoloPool)
    in_an_event(one.hub, lambda: (one.take(backbeat={}), one.give()), one.pipes[1][1])
    assert one.run() == ["acknowledged", "given"]


def test_a_worker_that_shuts_down_acknowledges_at_once(worker):
    """Celery runs what a closed loop was asked for once, and not what that asks for."""
    one = worker(TaskPool, CLOSE)
    one.take(backbeat={})
    one.hub.close()
    assert one.seen == ["acknowledged"]


def test_after_a_lost_connection_the_next_ones_are_acknowledged(worker):
    one = worker(TaskPool)
    one.take("before", backbeat={})
    one.hub.reset()
    one.bring_a_poller()
    in_an_event(one.hub, lambda: one.take("after", backbeat={}), one.pipes[1][1])
    assert set(one.run()) == {"before", "after"}


def test_the_loss_of_the_broker_cancels_tasks_and_no_nodes(monkeypatch):
    """Celery cancels what is acknowledged late where a project has it do so."""
    node = Mock(request_dict={"id": "1", HEADER: {"id": "1"}}, acknowledged=False)
    task = Mock(request_dict={"id": "2"}, acknowledged=False)
    monkeypatch.setattr("backbeat_celery.runtime.compat.worker.active_requests", {node, task})
    monkeypatch.setattr("celery.worker.consumer.consumer.active_requests", {node, task})
    consumer = Mock()
    consumer.app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
    consumer.app.conf.worker_enable_prefetch_count_reduction = False
    lost = partial(Consumer.on_connection_error_after_connected, consumer)
    consumer.on_connection_error_after_connected = lost
    ConnectionLossStep(consumer)
    consumer.on_connection_error_after_connected(OSError("gone"))
    assert task.cancel.called and not node.cancel.called
    assert not node.acknowledged
