from tests.neighbours.base import BACKBEAT, BROKER, DATABASE, SECRET_KEY

__all__ = ["BACKBEAT", "SECRET_KEY"]
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_beat",
    "django_celery_results",
    "django_structlog",
    "backbeat_celery",
]
DATABASES = {"default": DATABASE}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DJANGO_STRUCTLOG_CELERY_ENABLED = True
CELERY_BROKER_URL = BROKER
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_TASK_DEFAULT_QUEUE = "observed"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
