"""The shop's tables: cameras, notifications, and the records of the fake gateway."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Camera(models.Model):
    """A camera that a customer pays for with a card."""

    number = models.PositiveIntegerField(unique=True)
    name = models.CharField(max_length=100)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    card = models.CharField(max_length=50)
    receipt = models.CharField(max_length=50, blank=True)
    purchased_at = models.DateTimeField(null=True)
    shipped_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["number"]

    def __str__(self) -> str:
        return f"{self.name} (camera {self.number})"

    def mark_purchased(self, receipt: str) -> None:
        """Mark the camera as sold; a second call changes nothing."""
        unsold = Camera.objects.filter(pk=self.pk, purchased_at=None)
        unsold.update(receipt=receipt, purchased_at=timezone.now())

    def mark_shipped(self) -> None:
        """Mark the camera as shipped; a second call changes nothing."""
        Camera.objects.filter(pk=self.pk, shipped_at=None).update(shipped_at=timezone.now())


class Notification(models.Model):
    """A message that was sent; the unique key makes sure that it is sent once."""

    key = models.CharField(max_length=64, unique=True)
    recipient = models.CharField(max_length=200)
    text = models.CharField(max_length=200)
    sent_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"to {self.recipient}: {self.text}"


class Charge(models.Model):
    """A record of the fake gateway: one row for each idempotency key."""

    key = models.CharField(max_length=64, unique=True)
    card = models.CharField(max_length=50)
    amount = models.DecimalField(max_digits=8, decimal_places=2)
    requests = models.PositiveIntegerField(default=0)
    reserved_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.amount} on {self.card}: {'reserved' if self.reserved_at else 'declined'}"
