"""Settings of the project in which the code blocks of the documentation run."""

import sys
from pathlib import Path

from tests.services import database_settings

sys.path.insert(0, str(Path(__file__).parent / "project"))

import mysite

__all__ = ["mysite"]

BASE_DIR = Path(__file__).parent
SECRET_KEY = "docs"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "backbeat_celery",
    "shop",
]
DATABASES = {"default": database_settings()}
ROOT_URLCONF = "mysite.urls"
STATIC_URL = "/static/"
SITE_URL = "https://shop.example"
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
CELERY_BROKER_URL = "memory://"

SILENCED_SYSTEM_CHECKS = ["backbeat_celery.E012"]
"""`tests/workflows.py`, which is imported by fixtures of all tests, has tasks that are wrong."""
