"""Django's settings while Celery's tests run on nodes."""

import os

from tests.services import server_settings

SECRET_KEY = "canvas"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "backbeat_celery"]
DATABASES = {"default": server_settings(os.environ["CANVAS_DATABASE_URL"])}
BACKBEAT = {"SWEEP_INTERVAL": 1}
