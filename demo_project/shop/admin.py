"""The shop in the admin: each camera with its workflows."""

from django.contrib import admin

from backbeat_celery.admin import BackbeatSubjectMixin
from demo_project.shop.models import Camera


@admin.register(Camera)
class CameraAdmin(BackbeatSubjectMixin, admin.ModelAdmin):
    list_display = ("number", "name", "price", "purchased_at", "shipped_at")
    search_fields = ("name",)
