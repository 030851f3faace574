"""Settings of the demo: one folder of SQLite files, no server. Not for production."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("BACKBEAT_DEMO_DIR") or BASE_DIR / ".demo")
DATA_DIR.mkdir(parents=True, exist_ok=True)

SECRET_KEY = "for the demo only"  # noqa: S105
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "demo_project.urls"
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
    "demo_project.shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
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
STATIC_URL = "/static/"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(DATA_DIR / "db.sqlite3"),
        "CONN_MAX_AGE": None,
        # What lets several processes write to one SQLite file. PostgreSQL needs none of it.
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}

# A short lease shows the recovery of a killed worker's nodes within seconds. In production
# use the defaults: 30 s, and a sweep every 5 s.
BACKBEAT = {"LEASE": 4, "SWEEP_INTERVAL": 1, "REDACT": ["card"]}

# `redis://` and `amqp://` addresses work as well.
EMBEDDED_BROKER_FILE = DATA_DIR / "broker.sqlite3"
CELERY_BROKER_URL = (
    os.environ.get("BACKBEAT_DEMO_BROKER") or f"sqla+sqlite:///{EMBEDDED_BROKER_FILE}"
)
