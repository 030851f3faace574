"""Settings of the test suite; `BACKBEAT_TEST_DATABASE_URL` chooses the database."""

import json
import os

from tests.services import database_settings

SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_beat",
    "backbeat_celery",
    "tests",
]
DATABASES = {"default": database_settings()}
BACKBEAT = json.loads(os.environ.get("BACKBEAT_TEST_SETTINGS", "{}"))
