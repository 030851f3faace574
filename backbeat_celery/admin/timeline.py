"""The timeline of a page: attempts and waits of its rows on one time axis.

Geometry only; all positions are percentages, so that the drawing fits any width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from backbeat_celery.admin.markup import duration
from backbeat_celery.models import Attempt, Node
from backbeat_celery.states import AttemptOutcome, Status

LATEST = 20
"""Attempts of one node that are drawn: the latest."""

IDLE = 0.12
"""Share of the busy time from which an idle gap is compressed."""

SQUEEZED = 0.03
"""Share of the axis that a compressed gap takes."""

LEAST = 0.04
"""Share of the whole axis below which a gap is not compressed."""

MOST_GAPS = 8
THINNEST = 0.4
LETTER = 2.3
"""Percent of the axis that a letter takes on a page of the usual width."""
Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval of one node."""

    kind: str
    x: float
    width: float
    text: str
    label: str = ""

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 2)


@dataclass(frozen=True, slots=True)
class Tick:
    """A time on the axis, or a compressed gap."""

    x: float
    text: str
    is_gap: bool = False
    is_late: bool = False


@dataclass(slots=True)
class Axis:
    """Maps times to percentages; long idle gaps may be compressed."""

    start: datetime
    end: datetime
    gaps: list[Span] = field(default_factory=list)

    def x(self, at: datetime) -> float:
        """Give the position of a time, in percent."""
        at = min(max(at, self.start), self.end)
        passed, squeezed = at - self.start, 0.0
        for begin, end in self.gaps:
            if at > begin:
                part = min(at, end) - begin
                passed -= part
                squeezed += SQUEEZED * (part / (end - begin))
        share = passed / self._busy if self._busy else 0.0
        return round(100 * (share * (1 - SQUEEZED * len(self.gaps)) + squeezed), 2)

    @property
    def _busy(self) -> timedelta:
        idle = sum(((end - begin) for begin, end in self.gaps), timedelta())
        return max(self.end - self.start - idle, timedelta(milliseconds=1))

    def bar(self, kind: str, start: datetime, end: datetime, text: str, label: str = "") -> Bar:
        x = min(self.x(start), 100 - THINNEST)
        width = max(self.x(end) - x, THINNEST)
        return Bar(
            kind, x, round(width, 2), text, label if width >= LETTER * (len(label) + 1) else ""
        )

    def ticks(self) -> list[Tick]:
        """Give the two ends of the axis and the gaps between them."""
        marks = [
            Tick(self.x(begin) + 50 * SQUEEZED, duration((end - begin).total_seconds()), True)
            for begin, end in self.gaps
            if 20 < self.x(begin) < 75  # the labels of the ends are there
        ]
        with_date = self.end - self.start > timedelta(hours=20)
        text = "%b %d %H:%M" if with_date else "%H:%M:%S"
        ends = [(0.0, self.start, False), (100.0, self.end, True)]
        times = [
            Tick(x, timezone.localtime(at).strftime(text), is_late=late) for x, at, late in ends
        ]
        return [times[0], *marks, times[1]]


@dataclass(slots=True)
class Lane:
    """The bars of one node."""

    bars: list[Bar]

    @property
    def text(self) -> str:
        """The same as text."""
        return "; ".join(bar.text for bar in self.bars)


@dataclass(slots=True)
class Timeline:
    """The lanes of all rows and their axis."""

    axis: Axis
    lanes: dict[UUID, Lane]
    can_squeeze: bool


def draw(nodes: Sequence[Node], now: datetime, *, squeeze: bool) -> Timeline:
    """Draw the attempts and the waits of these nodes."""
    attempts = _attempts(nodes)
    spans = [span for node in nodes for span in _busy(node, attempts[node.pk], now)]
    start = min([node.created_at for node in nodes] + [span[0] for span in spans], default=now)
    end = max([span[1] for span in spans], default=now)
    if any(node.status in {Status.RUNNING, Status.RETRYING, Status.QUEUED} for node in nodes):
        end = max(end, now)
    end = max(end, start + timedelta(milliseconds=100))
    gaps = _gaps(spans, start, end)
    axis = Axis(start, end, gaps if squeeze else [])
    lanes = {node.pk: Lane(_bars(node, attempts[node.pk], axis, now)) for node in nodes}
    return Timeline(axis, lanes, bool(gaps))


def _attempts(nodes: Sequence[Node]) -> dict[UUID, list[Attempt]]:
    """The latest attempts of each node, the running one included."""
    found: dict[UUID, list[Attempt]] = defaultdict(list)
    claimed = [node for node in nodes if node.attempt]
    if claimed:
        # An addition: MySQL's unsigned columns cannot be negative, not even in an expression.
        rows = (
            Attempt.objects.using(claimed[0].alias)
            .filter(node__in=[node.pk for node in claimed])
            .alias(reach=F("number") + LATEST)
            .filter(reach__gt=F("node__attempt"))
        )
        for row in rows.defer("traceback", "error", "error_args").order_by("node", "number"):
            found[row.node_id].append(row)
    for node in claimed:
        if node.status == Status.RUNNING:
            running = Attempt(
                node=node, number=node.attempt, worker=node.worker, started_at=node.started_at
            )
            found[node.pk].append(running)
    return found


def _busy(node: Node, attempts: Iterable[Attempt], now: datetime) -> Iterable[Span]:
    """Give when a node was active: its creation, its attempts and its end."""
    yield node.created_at, node.created_at
    for attempt in attempts:
        if attempt.started_at is not None:
            yield attempt.started_at, attempt.finished_at or now
    if node.finished_at is not None:
        yield node.finished_at, node.finished_at


def _gaps(spans: Sequence[Span], start: datetime, end: datetime) -> list[Span]:
    """Find idle intervals that are long compared with the rest."""
    idle: list[Span] = []
    reached = start
    for begin, finish in sorted(spans):
        if begin > reached:
            idle.append((reached, begin))
        reached = max(reached, finish)
    if end > reached:
        idle.append((reached, end))
    busy = (end - start) - sum((gap[1] - gap[0] for gap in idle), timedelta())
    floor = max(IDLE * busy, timedelta(seconds=1), LEAST * (end - start))
    long = [gap for gap in idle if gap[1] - gap[0] > floor]
    return sorted(sorted(long, key=lambda gap: gap[0] - gap[1])[:MOST_GAPS])


def _bars(node: Node, attempts: Sequence[Attempt], axis: Axis, now: datetime) -> list[Bar]:
    bars: list[Bar] = []
    reached = node.created_at
    for attempt in attempts:
        if attempt.started_at is None:
            continue
        if attempt.started_at > reached:
            bars.append(axis.bar("wait", reached, attempt.started_at, _wait(reached, attempt)))
        reached = attempt.finished_at or now
        kind = attempt.outcome or "running"
        bars.append(
            axis.bar(kind, attempt.started_at, reached, _text(attempt, now), attempt.worker)
        )
    end = node.finished_at or now
    is_due = node.status in {Status.QUEUED, Status.RETRYING, Status.PAUSED}
    if not node.is_root and end > reached and (attempts or is_due):
        words = _("waits %s") if is_due else _("its children took %s")
        text = words % duration((end - reached).total_seconds())
        bars.append(axis.bar("wait" if is_due else "children", reached, end, text))
    return bars


def _wait(since: datetime, attempt: Attempt) -> str:
    assert attempt.started_at is not None
    return _("waited %s") % duration((attempt.started_at - since).total_seconds())


def _text(attempt: Attempt, now: datetime) -> str:
    assert attempt.started_at is not None
    end = attempt.finished_at or now
    outcome = AttemptOutcome(attempt.outcome).label if attempt.outcome else _("running")
    return _("attempt %(number)d on %(worker)s at %(at)s: %(outcome)s after %(time)s") % {
        "number": attempt.number,
        "worker": attempt.worker or _("an unknown worker"),
        "at": timezone.localtime(attempt.started_at).strftime("%H:%M:%S"),
        "outcome": outcome,
        "time": duration((end - attempt.started_at).total_seconds()),
    }
