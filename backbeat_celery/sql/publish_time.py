"""When the sweeper has to see to the message of a node that becomes queued, in SQL."""

from __future__ import annotations

from backbeat_celery.conf import settings


def publish_at(node: str, lease: str, horizon: str) -> str:
    """SQL for the time; `node` has the column fires_at, the others are what `times` gives."""
    return f"""
    CASE
        WHEN {node}.fires_at IS NULL OR {node}.fires_at <= {{now}}
            THEN {{now}} + make_interval(secs => {lease}::float8)
        WHEN {node}.fires_at <= {{now}} + make_interval(secs => {horizon}::float8)
            THEN {node}.fires_at + make_interval(secs => {lease}::float8)
        ELSE {node}.fires_at - make_interval(secs => {horizon}::float8)
    END
""".strip()


def times() -> list[str]:
    """Lease and horizon, as parameters."""
    return [repr(settings.lease), repr(settings.publish_horizon)]
