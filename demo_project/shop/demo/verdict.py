"""Whether the demo came out exactly right: trees, order, attempts and effects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from backbeat_celery.inspection.tree import TreeNode, tree
from backbeat_celery.models import Attempt, Node
from backbeat_celery.states import AttemptOutcome, Mode, Status, is_allowed
from demo_project.shop.demo.story import READERS, Order, Plot
from demo_project.shop.models import Camera, Charge, Notification

LIMIT = 2000
PURCHASE = (
    "make_purchase",
    Mode.BLOCKING,
    [
        (
            "successful_purchase",
            Mode.BLOCKING,
            [
                ("notify_customer", Mode.NON_BLOCKING, []),
                ("notify_fulfillment_center", Mode.NON_BLOCKING, []),
            ],
        )
    ],
)
REPORT = ("stock_report", Mode.BLOCKING, [])
SHIPPING = ("ship_camera", Mode.BLOCKING, [])
NEWSLETTER = (
    "send_newsletter",
    Mode.BLOCKING,
    [("notify_reader", Mode.NON_BLOCKING, [])] * READERS
    + [("close_newsletter", Mode.BLOCKING, [])],
)


class Wrong(Exception):
    """Something that is not as it must be, and the worker whose log may tell why."""

    def __init__(self, text: str, hostname: str = "") -> None:
        super().__init__(text)
        self.hostname = hostname


def problems(plot: Plot) -> list[Wrong]:
    """Everything that is wrong; empty when all is right."""
    return [wrong for check in (_orders, _newsletter, _calendar, _crash) for wrong in check(plot)]


def short(name: str) -> str:
    """A node's name without the module of its task."""
    return name.rpartition(".")[2]


def _orders(plot: Plot) -> Iterator[Wrong]:
    for order in plot.orders:
        purchase = tree(order.purchase)
        yield from _tree(purchase, PURCHASE, plot, order.errors)
        if order.shipping is not None:
            shipping = tree(order.shipping)
            yield from _tree(shipping, SHIPPING, plot)
            yield from _after(shipping.node, purchase.walk())
        yield from _effects(order, plot)


def _newsletter(plot: Plot) -> Iterator[Wrong]:
    branch = tree(plot.newsletter, LIMIT)
    yield from _tree(branch, NEWSLETTER, plot)
    *readers, last = branch.children or [branch]
    yield from _after(last.node, readers)
    keys = [str(child.node.pk) for child in readers]
    written = Notification.objects.filter(key__in=keys).count()
    if written != READERS:
        yield Wrong(f"{written} of {READERS} readers were written to")
    result = Node.objects.get(pk=last.node.pk).result
    if result != READERS:
        yield Wrong(f"close_newsletter counted {result} readers", last.node.worker)


def _calendar(plot: Plot) -> Iterator[Wrong]:
    """Beat has fired once, and that has started one workflow, on its date."""
    nodes = plot.started.nodes
    if len(nodes) != 1:
        yield Wrong(f"the calendar has started {len(nodes)} stock reports, not one", "beat@demo")
    for node in nodes:
        yield from _tree(tree(node), REPORT, plot)
        if node.workflow.subject != f"stock {node.metadata['scheduled_at'][:10]}":
            yield Wrong(f"{node} is about {node.workflow.subject}", node.worker)
        cameras = Camera.objects.count()
        progress = node.progress or {}
        if (progress.get("done"), progress.get("total")) != (cameras, cameras):
            yield Wrong(f"{node} of {cameras} cameras stands at {progress}", node.worker)
        if not node.result or not len(plot.orders) <= node.result <= cameras:
            yield Wrong(f"{node} has counted {node.result} of {cameras} cameras", node.worker)


def _crash(plot: Plot) -> Iterator[Wrong]:
    if plot.crash is None:
        return
    attempts = list(plot.crash.node.ended_attempts.order_by("number"))
    if AttemptOutcome.LOST not in {attempt.outcome for attempt in attempts}:
        yield Wrong("the attempt on the killed worker was not found to be lost")
    elif attempts[-1].worker == plot.crash.worker.hostname:
        yield Wrong("no other worker has run the lost attempt again")


def _tree(
    branch: TreeNode, wanted: Any, plot: Plot, errors: tuple[str, ...] = ()
) -> Iterator[Wrong]:
    """Compare a tree with what it must be; the errors are those of its topmost node."""
    name, mode, children = wanted
    node = branch.node
    if (short(node.name), node.mode) != (name, mode):
        yield Wrong(f"{node} stands where {name} ({mode}) should", node.worker)
    if node.status != Status.COMPLETE:
        yield Wrong(f"{node} is not complete: {node.error}", node.worker)
    yield from _attempts(node, plot, errors)
    yield from _history(node)
    if len(branch.children) != len(children):
        yield Wrong(
            f"{node} has {len(branch.children)} children, not {len(children)}", node.worker
        )
    for child, wanted_child in zip(branch.children, children, strict=False):
        yield from _tree(child, wanted_child, plot)


def _attempts(node: Node, plot: Plot, errors: tuple[str, ...]) -> Iterator[Wrong]:
    """One attempt is accepted, the last; before it, only what was meant to go wrong."""
    attempts = node.attempts
    outcomes = [attempt.outcome for attempt in attempts]
    if [attempt.number for attempt in attempts] != list(range(1, node.attempt + 1)):
        yield Wrong(f"{node} was claimed {node.attempt} times, but lists {outcomes}", node.worker)
    if outcomes.count(AttemptOutcome.SUCCEEDED) != 1 or outcomes[-1] != AttemptOutcome.SUCCEEDED:
        yield Wrong(f"{node} has not one accepted attempt, the last, but {outcomes}", node.worker)
    failed = [a.error or "" for a in attempts if a.outcome == AttemptOutcome.FAILED]
    if [error.partition("(")[0] for error in failed] != list(errors):
        yield Wrong(f"{node} failed with {failed}, not with {list(errors)}", node.worker)
    yield from (_unexpected(node, a) for a in attempts[:-1] if not _is_meant(a, plot))


def _is_meant(attempt: Attempt, plot: Plot) -> bool:
    if attempt.outcome == AttemptOutcome.LOST and plot.crash is not None:
        return attempt.worker == plot.crash.worker.hostname
    return attempt.outcome == AttemptOutcome.FAILED


def _unexpected(node: Node, attempt: Attempt) -> Wrong:
    return Wrong(f"{node} has an unexpected {attempt}: {attempt.error}", attempt.worker)


def _history(node: Node) -> Iterator[Wrong]:
    status = ""
    for step in node.history:
        if step.from_status != status or (status and not is_allowed(status, step.to_status)):
            yield Wrong(f"{node} went from {status} by a step {step}", node.worker)
        status = step.to_status
    if status != node.status:
        yield Wrong(f"{node} has a history that ends with {status}", node.worker)


def _after(node: Node, before: Iterable[TreeNode]) -> Iterator[Wrong]:
    ends = [branch.node.finished_at for branch in before]
    if (
        node.started_at is None
        or None in ends
        or node.started_at < max(filter(None, ends), default=node.started_at)
    ):
        yield Wrong(f"{node} did not wait for all that came before it", node.worker)


def _effects(order: Order, plot: Plot) -> Iterator[Wrong]:
    """The money was reserved once however many attempts it took, and the camera is sold."""
    camera, node = order.camera, order.purchase
    node.refresh_from_db()
    camera.refresh_from_db()
    charges = list(Charge.objects.filter(key=node.pk, reserved_at__isnull=False))
    # A lost attempt may have been lost before it asked the gateway.
    reported = node.ended_attempts.exclude(outcome=AttemptOutcome.LOST).count()
    if len(charges) != 1 or not reported <= charges[0].requests <= node.attempt:
        yield Wrong(f"{camera}: the gateway's books are wrong: {charges}", node.worker)
    if camera.purchased_at is None or camera.receipt != node.result:
        yield Wrong(f"{camera} is not marked as purchased", node.worker)
    if order.shipping is not None and camera.shipped_at is None:
        yield Wrong(f"{camera} is not shipped", node.worker)
    told = Notification.objects.filter(recipient__endswith=f"camera {camera.number}").count()
    packed = Notification.objects.filter(text__endswith=f"camera {camera.number}.").count()
    if (told, packed) != (1, 1):
        yield Wrong(f"{camera}: {told} and {packed} notifications instead of one each")
