"""Start a workflow by a schedule, once for each period of the schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from celery import Signature, Task, current_app
from django.apps import apps
from django.utils import timezone

from backbeat_celery.api import signal
from backbeat_celery.beat.period import Period, period_of
from backbeat_celery.beat.template import render
from backbeat_celery.exceptions import BadInput
from backbeat_celery.inputs.canvas import signature_of
from backbeat_celery.inputs.node_spec import check_key, check_name
from backbeat_celery.inputs.subject import subject_key
from backbeat_celery.models import Node, Workflow, node_alias
from backbeat_celery.runtime import clock
from backbeat_celery.states import Mode

FIRED_AT = "backbeat_fired_at"
"""The header with the time at which the message was first sent."""

OPTIONS = frozenset(
    "task canvas subject args kwargs name key mode delay metadata close queue using".split()  # noqa: SIM905
)


class FiredTask(Task):  # type: ignore[type-arg]
    """A task whose message says when it was first sent, so that a retry belongs to that period."""

    abstract = True

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Send the message, with the time in a header."""
        headers = {FIRED_AT: timezone.now().isoformat(), **(options.pop("headers", None) or {})}
        return super().apply_async(args, kwargs, headers=headers, **options)


@dataclass(frozen=True, slots=True)
class Firing:
    """A message of a schedule."""

    task_id: str
    fired_at: datetime
    schedule: str = ""
    is_by_beat: bool = False

    @classmethod
    def of(cls, request: Any) -> Firing:
        """Read the message of a task call; without the header the current time is taken."""
        headers: Mapping[str, Any] = request.headers or {}
        now = clock.simulated_now() if clock.is_simulated() else timezone.now()
        return cls(
            task_id=str(request.id),
            fired_at=datetime.fromisoformat(headers[FIRED_AT]) if FIRED_AT in headers else now,
            schedule=str(headers.get("periodic_task_name") or ""),
            is_by_beat=bool(headers.get("celery_beat_task")),
        )

    def period(self) -> Period:
        """Give the period of the schedule; without one, a period of its own."""
        schedule = _schedule(self.schedule) if self.is_by_beat and self.schedule else None
        period = period_of(schedule, self.fired_at) if schedule is not None else None
        return period or Period(self.task_id, self.fired_at)


@dataclass(frozen=True, slots=True)
class Start:
    """The arguments of `backbeat.signal`."""

    subject: str
    task: str = ""
    canvas: Mapping[str, Any] | None = None
    """A signature of Celery as JSON, in place of a task and its arguments."""
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None
    key: str | None = None
    mode: str = Mode.BLOCKING
    delay: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    close: bool = False
    queue: str | None = None
    using: str | None = None

    @classmethod
    def of(cls, positional: Sequence[Any], options: Mapping[str, Any]) -> Start:
        """Check the arguments of `backbeat.signal`, or raise BadInput."""
        if positional:
            raise BadInput("backbeat.signal takes keyword arguments only, no positional ones.")
        if unknown := options.keys() - OPTIONS:
            raise BadInput(
                f"backbeat.signal has no argument {', '.join(sorted(unknown))}; "
                f"it takes {', '.join(sorted(OPTIONS))}."
            )
        for required in ("name" if "canvas" in options else "task", "subject"):
            if not isinstance(options.get(required), str):
                raise BadInput(f"backbeat.signal needs a {required}, which is a string.")
        both = options.keys() & {"task", "args", "kwargs", "queue"}
        if both and "canvas" in options:
            raise BadInput(
                f"backbeat.signal takes a canvas or {', '.join(sorted(both))}, not both."
            )
        for name, kind in (("args", list), ("kwargs", dict), ("metadata", dict), ("canvas", dict)):
            if not isinstance(options.get(name, kind()), kind):
                raise BadInput(f"backbeat.signal takes a {kind.__name__} as {name}.")
        return cls(**options)


def start(request: Start, firing: Firing) -> Node:
    """Send the signal of a schedule; the same period gives the same node again.

    Dates in the subject and the key are dates of the period, in Django's current time zone.
    """
    period = firing.period()
    moment = timezone.localtime(period.moment)

    def filled(template: str, what: str) -> str:
        return render(template, what, moment, firing.schedule)

    subject = filled(request.subject, "subject")
    if request.key is None:
        key = f"{firing.schedule} {period.id}".strip()
    else:
        key = filled(request.key, "key")
    if request.close and (known := _sent_before(request, subject, key)) is not None:
        return known
    return signal(
        _signature(request),
        subject=subject,
        name=request.name,
        key=key,
        mode=request.mode,
        close=request.close,
        delay=request.delay,
        metadata={
            "schedule": firing.schedule,
            "scheduled_at": moment.isoformat(),
            **request.metadata,
        },
        using=request.using,
    )


def _signature(request: Start) -> Signature[Any]:
    if request.canvas is not None:
        return signature_of(request.canvas)
    signature = current_app.signature(request.task, list(request.args), dict(request.kwargs))
    return signature if request.queue is None else signature.set(queue=request.queue)


def _sent_before(request: Start, subject: str, key: str) -> Node | None:
    """Find the node of an earlier firing, whose run is closed and may be finished."""
    using, name = (
        request.using or node_alias(),
        check_name(request.name or request.task, "workflow"),
    )
    runs = Workflow.objects.using(using).filter(name=name, subject=subject_key(subject))
    known = Node.objects.using(using).signals_with_key(runs, check_key(key) or "")
    return known.first()


def _schedule(name: str) -> Any:
    """Read the schedule of a periodic task of django-celery-beat; None if it was deleted."""
    if not apps.is_installed("django_celery_beat"):
        return None
    model = apps.get_model("django_celery_beat", "PeriodicTask")
    row = model.objects.filter(name=name).select_related("interval", "crontab", "clocked").first()
    return row.schedule if row is not None and row.scheduler is not None else None
