"""A project with django-tenants and tenant-schemas-celery."""
