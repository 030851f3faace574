"""The errors that Celery, its signal receivers and monitors see in the place of a handler's."""

from __future__ import annotations

import traceback

from backbeat_celery.exceptions import BackbeatError
from backbeat_celery.inputs.redaction import scrub


class HandlerCrashed(BackbeatError):
    """Shown instead of a BaseException, or of an error that contains secrets."""


def without_secrets(error: BaseException, secrets: set[str]) -> BaseException:
    """Give the error, or another one if it, its causes or its traceback contain secrets."""
    text = "".join(traceback.format_exception(error)) if secrets else ""
    if scrub(text, secrets, "***") == text:
        return error
    return HandlerCrashed(scrub(repr(error), secrets, "***"))
