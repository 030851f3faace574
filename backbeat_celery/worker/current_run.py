"""Store the attempt that a task call runs on the call's request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backbeat_celery.runtime.compat.celery import headers_of_call

if TYPE_CHECKING:
    from backbeat_celery.worker.bundle import Bundle
    from backbeat_celery.worker.run import Run

_RUN = "backbeat_run"
_REFUSAL = "backbeat_refusal"


def run_of(request: Any) -> Run | Bundle | None:
    """Give the attempt that a task call runs; None in an ordinary call."""
    run: Run | Bundle | None = getattr(request, _RUN, None)
    return run


def store_run(request: Any, run: Run | Bundle) -> None:
    """Store the attempt for the rest of this call."""
    request.update({_RUN: run})


def store_refusal(request: Any, exc: Exception) -> None:
    """Store why there is no attempt, until it can be raised to Celery."""
    request.update({_REFUSAL: exc})


def raise_refusal(request: Any) -> None:
    """Raise the stored exception, once."""
    if (exc := headers_of_call(request).pop(_REFUSAL, None)) is not None:
        raise exc
