"""A payment gateway in memory: it knows its keys, and declines one card once."""


class CardDeclined(Exception):
    """The bank said no; it may say yes later."""


_receipts = {}
_declined = set()


def charge(card, key):
    """Take the money once for each key, and give the receipt."""
    if card == "declined once" and card not in _declined:
        _declined.add(card)
        raise CardDeclined(card)
    return _receipts.setdefault(key, f"R-{len(_receipts) + 1}")


def charges():
    """How many charges there were."""
    return len(_receipts)


def forget():
    """Begin anew, for the next page or test."""
    _receipts.clear()
    _declined.clear()
