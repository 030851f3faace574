"""Shape 4: the invoices, and then the mail; the mail is sent if an invoice fails, too."""

from __future__ import annotations

from typing import Any

from celery import chain, shared_task

from tests.integration.canvas import world


@shared_task(name="invoices.pdf")
def pdf(invoice: int) -> str:
    world.note("pdf", invoice)
    if invoice in world.get("broken", []):
        raise OSError(28, "No space left on device")
    return f"{invoice}.pdf"


@shared_task(name="invoices.send", acks_late=True)
def send(mail: int) -> None:
    world.note("send", mail)


def mail_with(invoices: list[int], mail: int) -> Any:
    """One signature is the last step, and the error callback of each step before it."""
    last = send.si(mail)
    return chain(*[pdf.si(invoice).on_error(last) for invoice in invoices], last)
