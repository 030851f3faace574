"""Describe what has happened since the last call, from the history of the nodes."""

from __future__ import annotations

from collections.abc import Iterator

from backbeat_celery.inspection.tree import SIGNS
from backbeat_celery.models import Node, Transition
from backbeat_celery.states import Status
from demo_project.shop.demo.story import READERS, Plot
from demo_project.shop.demo.verdict import short

STEP = 50
"""Readers between two lines about the newsletter."""


class Events:
    """Tells every change of status once, but for the newsletter's many readers."""

    def __init__(self, plot: Plot) -> None:
        self._titles = {o.purchase.workflow_id: str(o.camera) for o in plot.orders}
        self._titles[plot.newsletter.workflow_id] = "newsletter"
        self._newsletter = plot.newsletter
        self._last_pk = 0
        self._told_readers = 0

    def new(self) -> Iterator[str]:
        """One line for each event since the last call."""
        changes = Transition.objects.filter(
            pk__gt=self._last_pk, node__workflow__in=self._titles
        ).exclude(node__name__endswith="notify_reader")
        for change in changes.select_related("node").order_by("pk"):
            self._last_pk = change.pk
            if change.to_status != Status.RUNNING:
                yield self._line(change.node, _words(change))
        yield from self._readers()

    def _readers(self) -> Iterator[str]:
        complete = Node.objects.filter(
            parent=self._newsletter.pk, name__endswith="notify_reader", status=Status.COMPLETE
        ).count()
        if complete // STEP > self._told_readers // STEP:
            words = f"{SIGNS[Status.COMPLETE]} {complete} of {READERS} complete"
            yield f"{'newsletter':<28}{'notify_reader':<27}{words}"
        self._told_readers = complete

    def _line(self, node: Node, words: str) -> str:
        return f"{self._titles[node.workflow_id]:<28}{short(node.name):<27}{words}"


def _words(change: Transition) -> str:
    to, attempt = Status(change.to_status), change.attempt
    words = f"{SIGNS[to]} {to.label}"
    if change.from_status == Status.READY:
        return f"{words}: its turn has come"
    if to in {Status.RETRYING, Status.FAILED, Status.QUEUED}:
        ended = change.node.ended_attempts.filter(number=attempt).first()
        return f"{words}: attempt {attempt} {ended.outcome}, {ended.error}" if ended else words
    if to == Status.WAITING:
        return f"{words} for its children, attempt {attempt} accepted"
    return words
