"""Where a task call keeps the attempt that it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backbeat_celery.runtime.compat.celery import headers_of_call

if TYPE_CHECKING:
    from backbeat_celery.worker.bundle import Bundle
    from backbeat_celery.worker.run import Run

_RUN = "backbeat_run"
_REFUSAL = "backbeat_refusal"


def run_of(request: Any) -> Run | Bundle | None:
    """The attempt that a task call runs; None in an ordinary call."""
    run: Run | Bundle | None = getattr(request, _RUN, None)
    return run


def keep_run(request: Any, run: Run | Bundle) -> None:
    """Remember the attempt for the rest of this call."""
    request.update({_RUN: run})


def keep_refusal(request: Any, exc: Exception) -> None:
    """Remember why there is no attempt, until it can be told to Celery."""
    request.update({_REFUSAL: exc})


def raise_refusal(request: Any) -> None:
    """Raise what was kept, once."""
    if (exc := headers_of_call(request).pop(_REFUSAL, None)) is not None:
        raise exc
