"""A project with nothing but what the package itself installs: files for database and broker."""

import os
from pathlib import Path

SCRATCH = Path(os.environ["WHEEL_SCRATCH"])
BROKER = SCRATCH / "broker"

SECRET_KEY = "wheel"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "backbeat_celery"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": SCRATCH / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 60},
    }
}
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
BACKBEAT = {"SWEEP_INTERVAL": 1}

CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": str(BROKER),
    "data_folder_out": str(BROKER),
    "control_folder": str(SCRATCH / "control"),
}
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
