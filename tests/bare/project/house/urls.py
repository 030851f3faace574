"""The admin, and the callbacks."""

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls)]
if apps.is_installed("backbeat_celery"):
    urlpatterns.append(path("backbeat/", include("backbeat_celery.urls")))
