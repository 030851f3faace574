"""The call site with Celery alone."""

from __future__ import annotations

from celery import chain

from tests.integration.canvas.migrations.importing.tasks import fan_out, fetch, sum_up


def import_feed(feed: str) -> str:
    """Start an import; give the id under which its result will be."""
    canvas = chain(fetch.s(feed), fan_out.s(feed), sum_up.s(feed))
    result = canvas.apply_async()
    return str(result.id)
