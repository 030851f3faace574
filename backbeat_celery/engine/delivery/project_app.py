"""Find out whether this process has imported the project's Celery app."""

from __future__ import annotations

import logging
import warnings
from functools import cache

from celery.exceptions import NotConfigured

from backbeat_celery.runtime.compat.celery import app_in_use, is_made_up

logger = logging.getLogger(__name__)

HINT = "Import it in the package of the settings: `from .celery import app` in its __init__.py."


def missing_app() -> str:
    """Describe the problem if no app of the project is imported; empty if one is.

    Celery then uses a default app, which does not know the project's broker.
    """
    app = app_in_use()
    if not is_made_up(app):
        return ""
    with warnings.catch_warnings(action="ignore", category=NotConfigured):
        if app.conf.broker_write_url:
            return ""
    return (
        "No Celery app of the project is imported in this process, so that messages go to "
        "Celery's default broker, amqp://guest@localhost//"
    )


@cache
def warn_without_app() -> None:
    """Log once in each process that its messages go to the wrong broker."""
    if problem := missing_app():
        logger.warning("%s. %s", problem, HINT)
