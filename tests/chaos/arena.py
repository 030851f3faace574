"""Where a run takes place: servers, proxies, workers, messages, and what was done to them."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import services as test_services
from tests.chaos import previous, services
from tests.chaos.foreigners import ForeignWorker
from tests.chaos.messages import Messages
from tests.chaos.outsiders import Outsiders
from tests.chaos.profiles import SETTINGS, Profile
from tests.chaos.proxy import Proxy
from tests.chaos.services import Server
from tests.chaos.watch import Log, running
from tests.chaos.workers import ChaosWorker, Fleet


@dataclass
class Blow:
    """One fault that was inflicted, and the unfinished nodes that it hit."""

    kind: str
    nodes: list[str]
    at: float = field(default_factory=time.time)
    detail: str = ""


class Arena:
    """Everything a fault needs to be inflicted."""

    def __init__(self, profile: Profile, seed: int, database: str, broker: str, folder: Path):
        self.profile = profile
        self.rng = random.Random(f"nemesis {seed}")
        self.kinds = (database, broker)
        self.folder = folder
        self.database: Server | None = None
        self.broker: Server | None = None
        self.proxies: list[Proxy] = []
        self.agenda: list[tuple[float, Callable[[], object]]] = []
        self._lifts: list[threading.Thread] = []
        self.outsiders: Outsiders | None = None
        """Whoever reports from outside, once a run has begun."""
        self.foreign: ForeignWorker | None = None
        """A worker without the package, while there is one."""
        self.pauses: list[tuple[str, float, float]] = []
        """Workflow, and from when until when it was surely paused."""
        self.paused: dict[str, list[float]] = defaultdict(list)
        """Workflows that are paused now, and since when."""
        self.crashes: list[tuple[float, float]] = []
        """From when until when the database was away, by the machine's monotonic clock."""
        self.closed: set[str] = set()
        """Workflows whose closing was answered."""
        self.armed: dict[str, str] = {}
        """Points of the engine that are armed, and with what."""
        self.previous: Path | None = None
        """The Python of an earlier version of the package, in a run of two versions."""
        self.labels: set[str] = set()
        """Of every node that was sent, or added from outside."""
        self._numbers = itertools.count()
        self.begun = time.time()
        self.log = Log(folder / "handlers.jsonl")
        self.messages = Messages()
        try:
            self._start_servers()
            self._configure()
            self.fleet = self._make_fleet()
        except BaseException:
            self._stop_servers()
            raise

    def _start_servers(self) -> None:
        database, broker = self.kinds
        if database in services.DATABASES:
            self.database = services.DATABASES[database](self.folder)
        if broker in services.BROKERS:
            self.broker = services.BROKERS[broker](self.folder)

    def _configure(self) -> None:
        """Point Django and Celery in this process at the servers, and make the tables."""
        database, broker = self.kinds
        os.environ.update(
            BACKBEAT_TEST_DB=database,
            BACKBEAT_TEST_BROKER=broker,
            BACKBEAT_TEST_SETTINGS=json.dumps(SETTINGS),
            DJANGO_SETTINGS_MODULE="tests.settings",
        )
        if self.database is not None:
            os.environ[test_services.DATABASE_URL] = self.database.url
        else:
            os.environ[test_services.DATABASE_NAME] = str(self.folder / "chaos.sqlite3")
        embedded = f"sqla+sqlite:///{self.folder / 'broker.sqlite3'}"
        os.environ[test_services.BROKER_URL] = self.broker.url if self.broker else embedded
        import django

        django.setup()
        from django.core.management import call_command

        from tests.chaos.app import app

        app.set_default()
        app.loader.import_default_modules()
        call_command("migrate", verbosity=0)
        with app.connection_for_write() as connection:
            app.amqp.queues[self.messages.queue](connection.default_channel).declare()

    def _make_fleet(self) -> Fleet:
        environments: list[dict[str, str]] = []
        for _ in range(self.profile.workers):
            environment = {}
            if self.database is not None:
                self.proxies.append(Proxy(self.database.port))
                port = self.proxies[-1].port
                url = self.database.url.replace(f":{self.database.port}/", f":{port}/")
                environment[test_services.DATABASE_URL] = url
            environments.append(environment)
        fleet = Fleet(
            self.folder,
            size=self.profile.children,
            settings=SETTINGS,
            environments=environments,
            skews=self.profile.skews,
        )
        if self.profile.mixed:
            self.previous = previous.python(previous.earlier())
            fleet.pythons = dict.fromkeys(range(0, self.profile.workers, 2), self.previous)
        return fleet

    def held_by(self, pid: int, worker: ChaosWorker) -> str | None:
        """The node whose attempt a process of a worker, now frozen, has begun and not recorded."""
        self.log.follow()
        line = self.log.last.get(pid)
        if line and (line.node, line.attempt) in running(worker.hostname):
            return line.node
        return None

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something after a while, without waiting for it."""
        self.agenda.append((time.monotonic() + seconds, work))

    def lift_later(self, seconds: float, work: Callable[[], object]) -> None:
        """End a fault after a while, from a thread that waits for no lock.

        The harness's own thread may be waiting for the very rows that the fault keeps locked.
        """
        timer = threading.Timer(seconds, work)
        self._go(timer)

    def beside(self, work: Callable[[], object]) -> None:
        """Do something that takes a while in a thread of its own."""
        self._go(threading.Thread(target=work))

    def _go(self, thread: threading.Thread) -> None:
        thread.daemon = True
        self._lifts.append(thread)
        thread.start()

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be done, or a fault is still to be lifted."""
        self._lifts = [thread for thread in self._lifts if thread.is_alive()]
        return bool(self.agenda or self._lifts)

    def keep_agenda(self, *, all_of_it: bool = False) -> None:
        """Do what is due."""
        now = time.monotonic()
        due = [item for item in self.agenda if all_of_it or item[0] <= now]
        self.agenda = [item for item in self.agenda if item not in due]
        for _, work in due:
            work()

    def tell(self, text: str) -> None:
        """Say what happens, with the time since the beginning."""
        print(f"{time.time() - self.begun:7.1f} {text}", flush=True)

    def next_number(self) -> int:
        """A number that nobody else has."""
        return next(self._numbers)

    def shuffled(self, items: list[Any]) -> list[Any]:
        """The items in an order drawn from the seed."""
        return self.rng.sample(items, len(items))

    def stop(self) -> None:
        """Leave nothing running."""
        from django.db import connections

        for thread in self._lifts:
            if isinstance(thread, threading.Timer):
                thread.cancel()
        if self.foreign is not None:
            self.foreign.kill()
        self.fleet.stop()
        connections.close_all()
        self._stop_servers()

    def _stop_servers(self) -> None:
        for proxy in self.proxies:
            proxy.stop()
        for server in (self.broker, self.database):
            if server is not None:
                server.stop()
