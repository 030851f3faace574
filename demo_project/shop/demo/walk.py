"""An operator's walk: real nodes on real workers, steered by each verb in turn.

Every stop says what the operator does and why, waits for what must come of it, and shows the
tree. A stop where something else comes of it ends the walk with status 1.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db.models import Max

from backbeat_celery import signal
from backbeat_celery.inspection.tree import render
from backbeat_celery.models import Node, Workflow
from demo_project import celery
from demo_project.shop import gateway, tasks
from demo_project.shop.demo import data
from demo_project.shop.demo.interrupts import Interrupted, Interrupts
from demo_project.shop.demo.screen import Screen, open_plain_screen
from demo_project.shop.demo.workers import Crew
from demo_project.shop.models import Camera, Notification

READY_SECONDS = 40.0
STOP_SECONDS = 30.0
OPERATOR = "olga"
SALE = "camera sale"


class Astray(Exception):
    """What had to come of a step did not come in time."""


class Walk:
    """One walk from the first stop to the last."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._interrupts = Interrupts()
        self._screen: Screen = open_plain_screen()
        self._number = 0

    def run(self) -> int:
        """Walk; give the exit status."""
        if self._options["broker"]:
            celery.use_broker(self._options["broker"])
        with data.locked_folder() as folder:
            self._interrupts.catch()
            crew = Crew(folder)
            try:
                return self._in_folder(folder, crew)
            except Interrupted as exc:
                return exc.status
            finally:
                crew.stop()
                data.delete_queue()
                self._interrupts.ignore()

    def _in_folder(self, folder: Path, crew: Crew) -> int:
        data.prepare(folder, keep=False)
        for _ in range(2):
            crew.hire()
        if not self._interrupts.wait_until(crew.are_ready, READY_SECONDS) or crew.fallen:
            self._screen.say("✖ the workers did not start; see .demo/*.log", style="bold red")
            return 1
        try:
            for stop in (
                self.fail,
                self.retry,
                self.pause,
                self.resume,
                self.resolve,
                self.shutdown,
                self.cancel,
                self.close,
            ):
                stop()
        except Astray as exc:
            self._screen.say(f"✖ {exc}", style="bold red")
            return 1
        self._screen.say("\n✔ Every verb did what it says.", style="bold green")
        return 0

    # The stops ----------------------------------------------------------------------------

    def fail(self) -> None:
        self._head("A blocked card: the purchase fails for good, and its rescue writes a mail.")
        self.first, self.first_shipping = self._sell(gateway.BLOCKED)
        self._wait(self.first, "failed")
        self._until(lambda: Notification.objects.filter(text__contains="another card").exists())
        self._show(self.first)
        self._ask(self.first_shipping)

    def retry(self) -> None:
        self._head("The customer names another card. Olga retries the purchase.")
        Camera.objects.filter(card=gateway.BLOCKED).update(card=gateway.GOOD_CARD)
        self.first.retry(by=OPERATOR, reason="the customer has another card")
        self._wait(self.first_shipping, "complete")
        self._show(self.first)

    def pause(self) -> None:
        self._head("The gateway is being repaired. Olga pauses a sale before it begins.")
        camera = self._camera(gateway.GOOD_CARD)
        workflow = Workflow.objects.for_subject(camera, SALE)
        workflow.pause(by=OPERATOR, reason="the gateway is being repaired")
        self.second = signal(tasks.make_purchase.s(camera.number), subject=camera, name=SALE)
        self._wait(self.second, "paused")
        self._show(self.second)
        self._ask(self.second)

    def resume(self) -> None:
        self._head("It works again. Olga resumes the sale.")
        self.second.workflow.resume(by=OPERATOR)
        self._wait(self.second, "complete")
        self._show(self.second)

    def resolve(self) -> None:
        self._head(
            "Another blocked card, but this customer pays cash. Olga resolves the purchase."
        )
        bad, shipping = self._sell(gateway.BLOCKED)
        self._wait(bad, "failed")
        Camera.objects.get(number=bad.args[0]).mark_purchased("cash")
        bad.resolve(by=OPERATOR, reason="paid in cash")
        self._wait(shipping, "complete")
        self._show(bad)

    def shutdown(self) -> None:
        self._head("A third one gives up. Olga shuts the purchase down: nothing is shipped.")
        bad, shipping = self._sell(gateway.BLOCKED)
        self._wait(bad, "failed")
        bad.shutdown(by=OPERATOR, reason="the customer gave up")
        self._wait(bad, "complete")
        self._wait(shipping, "canceled")
        self._show(bad)

    def cancel(self) -> None:
        self._head(
            "The gateway hangs in the middle of a purchase. Olga cancels it, and the customer's "
            "second try, which stood behind it, starts."
        )
        camera = self._camera(gateway.HANGS_ONCE)
        hanging, second = (
            signal(tasks.make_purchase.s(camera.number), subject=camera, name=SALE)
            for _ in range(2)
        )
        self._wait(hanging, "running")
        Camera.objects.filter(pk=camera.pk).update(card=gateway.GOOD_CARD)
        hanging.cancel(by=OPERATOR, reason="no answer from the gateway")
        self._wait(second, "complete")
        self._show(second)

    def close(self) -> None:
        self._head("The first sale is over. Olga closes it; the next signal opens another run.")
        workflow = self.first.workflow
        workflow.close(by=OPERATOR)
        self._until(lambda: Workflow.objects.get(pk=workflow.pk).finished_at is not None)
        camera = Camera.objects.get(number=self.first.args[0])
        again = signal(tasks.ship_camera.s(camera.number), subject=camera, name=SALE)
        self._wait(again, "complete")
        self._show(again)

    # How it is done -----------------------------------------------------------------------

    def _camera(self, card: str) -> Camera:
        highest = Camera.objects.aggregate(highest=Max("number"))["highest"] or 702
        return Camera.objects.create(
            number=highest + 1, name="Leica M6", price=Decimal(2895), card=card
        )

    def _sell(self, card: str) -> tuple[Node, Node]:
        camera = self._camera(card)
        purchase = signal(tasks.make_purchase.s(camera.number), subject=camera, name=SALE)
        shipping = signal(tasks.ship_camera.s(camera.number), subject=camera, name=SALE)
        return purchase, shipping

    def _wait(self, node: Node, status: str) -> None:
        def is_so() -> bool:
            node.refresh_from_db()
            return node.status == status

        self._until(is_so, f"{node.name} is {{}} and should be {status}", node)

    def _until(
        self, condition: Callable[[], bool], what: str = "it did not happen", node: Any = None
    ) -> None:
        if not self._interrupts.wait_until(condition, STOP_SECONDS):
            raise Astray(what.format(node.status if node else ""))

    def _head(self, text: str) -> None:
        self._number += 1
        self._screen.say(f"\n{self._number}. {text}", style="bold")

    def _show(self, node: Node) -> None:
        self._screen.say(render(node.workflow))

    def _ask(self, node: Node) -> None:
        self._screen.say(f"   explain(): {node.explain()}", style="italic")
