"""The tasks that the pages name without defining them, and what their blocks may use.

Each page has a copy of this module of its own, in which its blocks are executed.
"""

from celery import shared_task
from django.conf import settings
from django.db import transaction
from django.urls import include, path, reverse

from backbeat_celery import Mode, current_node, node_task, signal, signal_many
from backbeat_celery.models import Node, Workflow
from backbeat_celery.testing import Simulation
from shop import bank, gateway
from shop.models import Camera, Notification, Product

__all__ = ["Mode", "Node", "Notification", "Product", "Simulation", "Workflow", "bank"]
__all__ += ["include", "path", "reverse", "settings", "signal", "signal_many"]
__all__ += ["transaction"]


@node_task(max_retries=5, default_retry_delay=60, throws=(gateway.CardDeclined,))
def make_purchase(number):
    camera = Camera.objects.get(number=number)
    receipt = gateway.charge(camera.card, key=current_node().idempotency_key)
    current_node().spawn(successful_purchase.s(number, receipt))


@node_task
def successful_purchase(number, receipt):
    node = current_node()
    node.spawn(notify_customer.s(number, receipt), mode="non_blocking")
    node.spawn(notify_fulfillment_center.s(number), mode="non_blocking")


@node_task
def notify_customer(number, receipt):
    return f"camera {number}, receipt {receipt}"


@node_task
def notify_fulfillment_center(number):
    return f"camera {number}"


@node_task
def notify(number, who):
    return f"{who}: camera {number}"


@node_task
def notify_reader(issue, reader):
    return f"reader {reader}: issue {issue}"


@node_task
def close_newsletter(issue):
    return issue


@node_task
def send_receipt(number):
    return f"receipt for {number}"


@node_task
def ship(number):
    return f"{number} is on its way"


@node_task
def close_order(number):
    return f"{number} is closed"


@node_task
def remind(number):
    return f"remember {number}"


@node_task
def gift_wrap(number):
    return f"{number} is wrapped"


@node_task
def insure(number):
    return f"{number} is insured"


@shared_task
def page(text):
    """A task that is no node."""
    return text
