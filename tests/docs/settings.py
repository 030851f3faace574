"""Settings of the project in which the code blocks of the documentation run."""

import sys
from pathlib import Path

from tests import settings as tests

sys.path.insert(0, str(Path(__file__).parent / "project"))

import mysite

__all__ = ["mysite"]

BASE_DIR = Path(__file__).parent
SECRET_KEY = "docs"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = tests.DEFAULT_AUTO_FIELD
INSTALLED_APPS = [*(app for app in tests.INSTALLED_APPS if app != "tests"), "shop"]
DATABASES = tests.DATABASES
ROOT_URLCONF = "mysite.urls"
STATIC_URL = tests.STATIC_URL
SITE_URL = "https://shop.example"
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = tests.TEMPLATES
CELERY_BROKER_URL = "memory://"

# `tests/workflows.py`, which is imported by fixtures of all tests, has tasks that are wrong.
SILENCED_SYSTEM_CHECKS = tests.SILENCED_SYSTEM_CHECKS
