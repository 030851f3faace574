"""A fake payment gateway: it declines, times out and hangs on its test cards.

Like a real one it remembers idempotency keys, so a request that is sent again after its
answer was lost finds the money reserved already. Its records are in the shop's database only
because the demo has no other one.
"""

from __future__ import annotations

import time
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from demo_project.shop.models import Charge

GOOD_CARD = "card-good"
DECLINED_ONCE = "card-declined-once"
TIMES_OUT_ONCE = "card-times-out-once"
HANGS_ONCE = "card-hangs-once"
BLOCKED = "card-blocked"

HANG_SECONDS = 8.0
"""Longer than the lease: a worker that is alive keeps its attempt by renewing it."""


class CardDeclined(Exception):
    """The bank declined; it may accept later."""


class CardBlocked(Exception):
    """The bank declines, now and later."""


class GatewayTimeout(Exception):
    """No answer came in time; whether the money was reserved is unknown."""


def reserve(amount: Decimal, *, card: str, key: str) -> str:
    """Reserve money on a card and give the receipt's number; once for each `key`."""
    with transaction.atomic():
        charge, _ = Charge.objects.select_for_update().get_or_create(
            key=key, defaults={"card": card, "amount": amount}
        )
        charge.requests += 1
        is_first = charge.requests == 1
        is_declined = card == BLOCKED or (is_first and card == DECLINED_ONCE)
        if charge.reserved_at is None and not is_declined:
            charge.reserved_at = timezone.now()
        charge.save(update_fields=["requests", "reserved_at"])
    if is_first:
        _misbehave(card)
    if card == BLOCKED:
        raise CardBlocked("the bank has blocked this card")
    return f"R-{charge.pk:04d}"


def _misbehave(card: str) -> None:
    if card == DECLINED_ONCE:
        raise CardDeclined("insufficient funds")
    if card == TIMES_OUT_ONCE:
        raise GatewayTimeout("no answer, although the money is reserved")
    if card == HANGS_ONCE:
        time.sleep(HANG_SECONDS)
