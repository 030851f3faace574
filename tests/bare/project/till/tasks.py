"""Handlers that only processes with the app `till` know."""

from backbeat_celery import node_task


class Declined(Exception):
    """The bank said no."""


@node_task(max_retries=0, rescue="till.tasks.sorry")
def charge(card, amount):
    raise Declined(f"no {amount} from {card}")


@node_task(awaits_completion=True, max_retries=0, rescue="till.tasks.sorry")
def ask_bank(card, amount):
    pass


@node_task(awaits_completion=True, max_retries=9, dont_autoretry_for=(Declined,))
def ask_again(card):
    pass


@node_task(max_retries=1, retry_jitter=False, default_retry_delay=7)
def sorry(node_id):
    pass
