"""The workers of a database: which of them sweeps, and a heartbeat of each."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from backbeat_celery.models.fields import ExactCharField


class SweeperLease(models.Model):
    """The right to sweep a database, taken over by another worker when it is not renewed."""

    name = models.CharField(max_length=50, primary_key=True, default="sweeper")
    holder = models.CharField(max_length=255, blank=True)
    expires_at = models.DateTimeField(null=True)
    swept_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("sweeper lease")
        verbose_name_plural = _("sweeper leases")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.holder or 'free'}"


class WorkerHeartbeat(models.Model):
    """The heartbeat of one worker, written periodically by a thread of its main process."""

    name = ExactCharField(max_length=255, primary_key=True)
    pool = models.CharField(max_length=50, blank=True)
    concurrency = models.PositiveIntegerField(default=0)
    running = models.PositiveIntegerField(default=0)
    # The names of those it listens to; NULL from a release that did not say.
    queues = models.JSONField(null=True)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.name)
