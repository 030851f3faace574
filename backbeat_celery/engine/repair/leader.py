"""Elect the one worker that sweeps: a lease in the database, taken over when it expires."""

from __future__ import annotations

from django.db.models import Q

from backbeat_celery.models import SweeperLease
from backbeat_celery.runtime import clock

NAME = "sweeper"


def acquire(holder: str, seconds: float, using: str) -> bool:
    """Acquire or renew the lease for that many seconds; False while another worker holds it."""
    leases = SweeperLease.objects.using(using)
    free = Q(holder=holder) | Q(expires_at=None) | Q(expires_at__lte=clock.now())
    available = leases.filter(free, name=NAME)
    if available.update(holder=holder, expires_at=clock.after(seconds)):
        return True
    if leases.filter(name=NAME).exists():
        return False
    leases.bulk_create([SweeperLease(name=NAME)], ignore_conflicts=True)
    return bool(available.update(holder=holder, expires_at=clock.after(seconds)))


def note_sweep(holder: str, using: str) -> None:
    """Write the time at which a pass was done, for the admin and doctor."""
    rows = SweeperLease.objects.using(using).filter(name=NAME, holder=holder)
    rows.update(swept_at=clock.now())


def release(holder: str, using: str) -> None:
    """Release the lease, so that another worker takes over at once."""
    rows = SweeperLease.objects.using(using).filter(name=NAME, holder=holder)
    rows.update(holder="", expires_at=None)
