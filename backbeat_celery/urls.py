"""URLs for callbacks: `path("backbeat/", include("backbeat_celery.urls"))`.

reverse("backbeat_celery:complete", args=[current_node().completion_token()])
"""

from __future__ import annotations

from django.urls import path

from backbeat_celery.views import complete

app_name = "backbeat_celery"
urlpatterns = [path("complete/<str:token>/", complete, name="complete")]
