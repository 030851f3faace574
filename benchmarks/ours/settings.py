"""Django's settings of the benchmark's project."""

import os

_server, _, _port = os.environ["BENCH_POSTGRES"].removeprefix("postgresql://").partition(":")
_user, _, _host = _server.rpartition("@")

SECRET_KEY = "benchmarks"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", "backbeat_celery"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("BENCH_DATABASE", "backbeat"),
        "USER": _user,
        "HOST": _host,
        "PORT": _port,
        "CONN_MAX_AGE": None,
    }
}
