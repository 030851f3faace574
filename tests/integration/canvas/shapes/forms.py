"""Shape 5: six steps after a form was submitted, whose ids a page polls."""

from __future__ import annotations

from typing import Any

from celery import chain, shared_task

from tests.integration.canvas import world


class NotPaid(Exception):
    """The payment is still open."""


def step(name: str, submission: int) -> str:
    world.note(name, submission)
    if name in world.get("down", []):
        raise NotPaid(name, submission)
    return name


@shared_task(name="forms.appoint")
def appoint(submission: int) -> str:
    return step("appoint", submission)


@shared_task(name="forms.announce")
def announce(submission: int) -> str:
    return step("announce", submission)


@shared_task(name="forms.report")
def report(submission: int) -> str:
    return step("report", submission)


@shared_task(name="forms.register")
def register(submission: int) -> str:
    return step("register", submission)


@shared_task(name="forms.pay")
def pay(submission: int) -> str:
    return step("pay", submission)


@shared_task(name="forms.remind")
def remind(submission: int) -> None:
    world.note("remind", submission)


@shared_task(name="forms.finalise")
def finalise(submission: int) -> str:
    if world.get("is_open"):
        remind.si(submission).apply_async(countdown=1)
    return step("finalise", submission)


STEPS = (appoint, announce, report, register, pay, finalise)


def submitted(submission: int) -> Any:
    return chain(*[task.si(submission) for task in STEPS])
