"""The project's Celery app, as tenant-schemas-celery wants it."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.neighbours.tenanted.settings")

from tenant_schemas_celery.app import CeleryApp

app = CeleryApp("tenanted")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["backbeat_celery", "tests.neighbours.tenanted.shop"])
