"""A bank that calls back: it keeps what it was asked for."""

orders = []


def charge(order_id, *, callback_url, idempotency_key):
    orders.append((order_id, callback_url, idempotency_key))
