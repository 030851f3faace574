"""Settings of a project whose processes import nothing that they are not told to."""

import json
import os
from pathlib import Path

HERE = Path(os.environ["HOUSE_FOLDER"])
FORGETS = os.environ.get("HOUSE_FORGETS", "")

SECRET_KEY = "house"
USE_TZ = True
DEBUG = False
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    *([] if FORGETS == "package" else ["backbeat_celery"]),
    # An image for the web alone, and one whose workers run other tasks, have no till.
    *([] if FORGETS in {"tasks", "package"} else ["till"]),
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": HERE / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
CELERY_BROKER_URL = f"sqla+sqlite:///{HERE / 'broker.sqlite3'}"
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
BACKBEAT = {"REDACT": ["card"], **json.loads(os.environ.get("HOUSE_BACKBEAT", "{}"))}
ROOT_URLCONF = "house.urls"
STATIC_URL = "/static/"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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
