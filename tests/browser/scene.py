"""A shop on a busy day, played on the Simulation: what the screenshots show."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import F
from django.utils import timezone

from backbeat_celery import signal
from backbeat_celery.engine.repair import heartbeats
from backbeat_celery.models import SweeperLease, WorkerHeartbeat
from backbeat_celery.testing import Simulation, simulation
from demo_project.shop import gateway, tasks
from demo_project.shop.models import Camera

CARDS = (gateway.GOOD_CARD, gateway.GOOD_CARD, gateway.DECLINED_ONCE, gateway.TIMES_OUT_ONCE)
NAMES = ("Leica M6", "Nikon F3", "Canon AE-1", "Hasselblad 500", "Contax T2", "Rolleiflex 2.8")
USER = PASSWORD = "demo"


class BusyShop(Simulation):
    """A Simulation whose handlers take their time, on one of three workers."""

    def __init__(self) -> None:
        super().__init__(seed=7, start=timezone.now() - timedelta(minutes=75))
        self._chance = random.Random(7)

    def _deliver(self, message: Any) -> None:
        simulation.WORKER = f"w{self._chance.randint(1, 3)}@shop"
        self._now += timedelta(milliseconds=self._chance.randint(5, 60))
        super()._deliver(message)

    def _on_failpoint(self, name: str) -> None:
        super()._on_failpoint(name)
        if name == "before_handler":
            self._now += timedelta(milliseconds=self._chance.randint(40, 900))

    def sell(self, number: int) -> Camera:
        """Signal the purchase of a camera and its shipping."""
        camera = Camera.objects.create(
            number=number,
            name=self._chance.choice(NAMES),
            price=self._chance.randint(180, 2900),
            card=self._chance.choice(CARDS),
        )
        signal(tasks.make_purchase.s(number), subject=camera, name="camera order")
        signal(tasks.ship_camera.s(number), subject=camera, name="camera order")
        return camera

    def play(self) -> None:
        """Sell cameras for an hour, and leave some of the work unfinished."""
        self._mistake()
        for number in range(703, 720):
            self.sell(number)
            self.run()
            self.advance(minutes=self._chance.randint(2, 6))
        signal(tasks.send_newsletter.s(12, 400), subject="newsletter 12", name="newsletter")
        for _ in range(260):
            self.step()
        self._declined()
        self._staff()

    def _mistake(self) -> None:
        """Somebody has a camera shipped that nobody has paid."""
        lens = Camera.objects.create(number=801, name="Zeiss Biotar", price=640, card="card-good")
        signal(tasks.ship_camera.s(801), subject=lens, name="camera order")
        signal(tasks.notify_customer.s(801), subject=lens, name="camera order")
        self.run()

    def _declined(self) -> None:
        camera = self.sell(802)
        Camera.objects.filter(pk=camera.pk).update(card=gateway.DECLINED_ONCE)
        while self.step() and not self.calls[-1].task.endswith("make_purchase"):
            pass

    def _staff(self) -> None:
        """Somebody to log in, and workers that are alive, but for one."""
        get_user_model().objects.create_superuser(USER, password=PASSWORD)
        for number in (1, 2, 3):
            name = f"w{number}@shop"
            heartbeats.write(
                name,
                "default",
                pool="prefork",
                concurrency=2,
                running=number % 2,
                queues=["celery"],
            )
        WorkerHeartbeat.objects.update(started_at=self.now - timedelta(hours=26))
        WorkerHeartbeat.objects.filter(name="w3@shop").update(
            seen_at=F("seen_at") - timedelta(minutes=4)
        )
        SweeperLease.objects.update_or_create(
            name="sweeper", defaults={"holder": "w1@shop", "swept_at": self.now}
        )
