"""What happens in the demo: which cameras are sold, what is signalled, and the crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from django.db.models import Max

from backbeat_celery import signal
from backbeat_celery.models import Node
from backbeat_celery.states import FINISHED, Status
from demo_project.shop import gateway, tasks
from demo_project.shop.demo.calendar import Started
from demo_project.shop.demo.interrupts import Interrupts
from demo_project.shop.demo.workers import Crew, Worker
from demo_project.shop.models import Camera, Charge

READERS = 200
FIRST_NUMBER = 703
STOCK = (
    ("Leica M6", 2895, gateway.DECLINED_ONCE),
    ("Nikon F3", 420, gateway.TIMES_OUT_ONCE),
    ("Canon AE-1", 180, gateway.GOOD_CARD),
    ("Hasselblad 500", 1950, gateway.HANGS_ONCE),
)
ERRORS = {gateway.DECLINED_ONCE: ("CardDeclined",), gateway.TIMES_OUT_ONCE: ("GatewayTimeout",)}
"""For each bad card, the errors that attempts at a purchase must have met, in order."""


@dataclass(slots=True)
class Order:
    """One camera and its signals, in order."""

    camera: Camera
    purchase: Node
    shipping: Node | None = None

    @property
    def errors(self) -> tuple[str, ...]:
        return ERRORS.get(self.camera.card, ())

    def is_refused(self) -> bool:
        """Tell whether the gateway has made all the trouble it will make about this card."""
        self.purchase.refresh_from_db()
        return self.purchase.retries >= len(self.errors)


@dataclass(slots=True)
class Crash:
    """A worker that was killed, and the node whose handler it was running."""

    worker: Worker
    node: Node


@dataclass(slots=True)
class Plot:
    """Everything that was signalled."""

    newsletter: Node
    started: Started
    orders: list[Order] = field(default_factory=list)
    crash: Crash | None = None

    @property
    def signals(self) -> Iterator[Node]:
        for order in self.orders:
            yield order.purchase
            if order.shipping is not None:
                yield order.shipping
        yield self.newsletter

    def is_over(self) -> bool:
        """Tell whether every signal's whole tree is finished, or one waits for an operator."""
        workflows = {node.workflow_id for node in self.signals}
        if Node.objects.filter(workflow__in=workflows, status=Status.FAILED).exists():
            return True
        tops = Node.objects.filter(pk__in=[node.pk for node in self.signals])
        return not tops.exclude(status__in=FINISHED).exists()


def begin(cameras: list[Camera], started: Started) -> Plot:
    """Signal everything at once."""
    plot = Plot(newsletter=_newsletter(issue=cameras[0].number), started=started)
    for camera in cameras:
        purchase = signal(tasks.make_purchase.s(camera.number), subject=camera, name="camera sale")
        plot.orders.append(Order(camera, purchase))
    first = plot.orders[0]
    # A second signal about the same camera: it waits for the whole tree of the first.
    first.shipping = signal(
        tasks.ship_camera.s(first.camera.number), subject=first.camera, name="camera sale"
    )
    return plot


def stock_up() -> list[Camera]:
    """Put cameras on the shelf."""
    highest = Camera.objects.aggregate(highest=Max("number"))["highest"] or FIRST_NUMBER - 1
    return [
        Camera.objects.create(number=number, name=name, price=Decimal(price), card=card)
        for number, (name, price, card) in enumerate(STOCK, start=highest + 1)
    ]


def _newsletter(issue: int) -> Node:
    return signal(
        tasks.send_newsletter.s(issue, READERS), subject=f"issue {issue}", name="newsletter"
    )


def crash(
    plot: Plot, crew: Crew, interrupts: Interrupts, look: Callable[[], None], seconds: float
) -> Crash | None:
    """Kill the worker whose handler hangs at the gateway, after it has reserved the money.

    Not before the bad cards have been refused: what this worker runs beside the hanging handler
    is lost with it, and then it would be another error that is retried.
    None if no handler was caught in the act within that time. `look` is called while waiting.
    """
    order = next(o for o in plot.orders if o.camera.card == gateway.HANGS_ONCE)
    node = order.purchase

    def is_in_the_middle() -> bool:
        look()
        node.refresh_from_db()
        if not all(order.is_refused() for order in plot.orders):
            return False
        return node.status == Status.RUNNING and Charge.objects.filter(key=node.pk).exists()

    if not interrupts.wait_until(is_in_the_middle, seconds):
        return None
    worker = crew.named(node.worker)
    if worker is None:
        return None
    worker.kill()
    node.refresh_from_db()
    if node.status != Status.RUNNING or node.worker != worker.hostname:
        return None  # the handler was done a moment before
    if not crew.alive:
        crew.hire()
    plot.crash = Crash(worker, node)
    return plot.crash
