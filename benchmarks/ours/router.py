"""Workflows divided by subject over several databases."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from django.conf import settings


def shard(subject: str) -> str:
    """Name the database of a subject: always the same, in every process."""
    shards = settings.BACKBEAT["DATABASES"]
    alias: str = shards[crc32(subject.encode()) % len(shards)]
    return alias


class ShardRouter:
    """Keeps what was read from a shard there, and our tables in all shards."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """The database that an instance came from, so that relations stay in it."""
        instance = hints.get("instance")
        return instance._state.db if instance is not None else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Whether an app has tables in a database."""
        if db == "default":
            return None
        return app_label in {"backbeat_celery", "contenttypes"}
