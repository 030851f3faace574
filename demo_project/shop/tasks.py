"""The shop's handlers: ordinary Celery tasks that spawn what comes next."""

from __future__ import annotations

from uuid import UUID

from backbeat_celery import Mode, current_node, node_task
from backbeat_celery.models import Node
from demo_project.shop import gateway
from demo_project.shop.models import Camera, Notification


class NotPurchased(Exception):
    """A camera is shipped only once it is paid."""


@node_task
def ask_for_another_card(node_id: UUID) -> None:
    """The rescue of a purchase whose retries are exhausted: ask for another card."""
    (number,) = Node.objects.get(pk=node_id).args
    _send(f"the customer of camera {number}", "Your card was refused. Have you another card?")


@node_task(
    max_retries=5,
    default_retry_delay=1,
    throws=(gateway.CardDeclined, gateway.GatewayTimeout, gateway.CardBlocked),
    dont_autoretry_for=(gateway.CardBlocked,),
    rescue=ask_for_another_card,
)
def make_purchase(number: int) -> str:
    """Take the customer's money for a camera. Temporary errors are retried."""
    camera = Camera.objects.get(number=number)
    # Every attempt of this node uses the same idempotency key: the money is reserved once.
    receipt = gateway.reserve(camera.price, card=camera.card, key=current_node().idempotency_key)
    camera.mark_purchased(receipt)
    current_node().spawn(successful_purchase.s(number))
    return receipt


@node_task
def successful_purchase(number: int) -> None:
    """Notify customer and warehouse, in parallel."""
    node = current_node()
    node.spawn(notify_customer.s(number), mode=Mode.NON_BLOCKING)
    node.spawn(notify_fulfillment_center.s(number), mode=Mode.NON_BLOCKING)


@node_task
def notify_customer(number: int) -> None:
    _send(f"the customer of camera {number}", "Thank you, the camera is yours.")


@node_task
def notify_fulfillment_center(number: int) -> None:
    _send("the fulfillment center", f"Please pack camera {number}.")


@node_task
def ship_camera(number: int) -> None:
    """Ship a camera. It is signalled after the purchase, so it runs after it."""
    camera = Camera.objects.get(number=number)
    if camera.purchased_at is None:
        raise NotPurchased(f"Camera {number} is not paid.")
    camera.mark_shipped()


@node_task
def send_newsletter(issue: int, readers: int) -> int:
    """A fan-out, then one node that starts after all of it."""
    node = current_node()
    node.spawn_many(
        [notify_reader.s(issue, reader) for reader in range(1, readers + 1)],
        mode=Mode.NON_BLOCKING,
    )
    node.spawn(close_newsletter.s(issue), barrier=True)
    return readers


@node_task(atomic=True)
def notify_reader(issue: int, reader: int) -> None:
    """Write to one reader. `atomic`: this row and the node's outcome commit together."""
    Notification.objects.create(
        key=current_node().idempotency_key, recipient=f"reader {reader}", text=f"issue {issue}"
    )


@node_task
def close_newsletter(issue: int) -> int:
    """Count the readers who were written to: all of them, because this is a barrier."""
    return Notification.objects.filter(
        recipient__startswith="reader ", text=f"issue {issue}"
    ).count()


@node_task
def stock_report() -> int:
    """Count the cameras in stock, with progress. A schedule signals this one."""
    cameras = Camera.objects.order_by("number")
    total = cameras.count()
    unsold = 0
    for done, camera in enumerate(cameras.iterator(), start=1):
        unsold += camera.purchased_at is None
        current_node().progress(done, total, camera.name)
    return unsold


def _send(recipient: str, text: str) -> None:
    Notification.objects.get_or_create(
        key=current_node().idempotency_key, defaults={"recipient": recipient, "text": text}
    )
