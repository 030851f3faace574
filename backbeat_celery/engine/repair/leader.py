"""Choose the one worker that sweeps: a lease in the database, taken over when it runs out."""

from __future__ import annotations

from django.db.models import Q

from backbeat_celery.models import SweeperLease
from backbeat_celery.runtime import clock

NAME = "sweeper"


def take(holder: str, seconds: float, using: str) -> bool:
    """Take or renew the right to sweep for that many seconds; False while another holds it."""
    leases = SweeperLease.objects.using(using)
    free = Q(holder=holder) | Q(expires_at=None) | Q(expires_at__lte=clock.now())
    mine = leases.filter(free, name=NAME)
    if mine.update(holder=holder, expires_at=clock.after(seconds)):
        return True
    if leases.filter(name=NAME).exists():
        return False
    leases.bulk_create([SweeperLease(name=NAME)], ignore_conflicts=True)
    return bool(mine.update(holder=holder, expires_at=clock.after(seconds)))


def note_sweep(holder: str, using: str) -> None:
    """Write down that a pass is done, for those who watch the sweeper."""
    rows = SweeperLease.objects.using(using).filter(name=NAME, holder=holder)
    rows.update(swept_at=clock.now())


def release(holder: str, using: str) -> None:
    """Let another worker take over at once."""
    rows = SweeperLease.objects.using(using).filter(name=NAME, holder=holder)
    rows.update(holder="", expires_at=None)
