"""Who sweeps: one row, held by one worker at a time."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


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
