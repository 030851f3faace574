from tests.neighbours.base import BACKBEAT, BROKER, DATABASE, SECRET_KEY

__all__ = ["BACKBEAT", "SECRET_KEY"]
SHARED_APPS = [
    "django_tenants",
    "tests.neighbours.tenanted.tenants",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_beat",
    "backbeat_celery",
]
TENANT_APPS = ["tests.neighbours.tenanted.shop"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]
TENANT_MODEL = "tenants.Client"
TENANT_DOMAIN_MODEL = "tenants.Domain"
DATABASES = {"default": {**DATABASE, "ENGINE": "django_tenants.postgresql_backend"}}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_BROKER_URL = BROKER
CELERY_TASK_DEFAULT_QUEUE = "tenanted"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
