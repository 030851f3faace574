"""URLs for callbacks: `path("backbeat/", include("backbeat_celery.urls"))`.

reverse("backbeat_celery:complete", args=[current_node().completion_token()])
reverse("backbeat_celery:complete")  # the token goes into the header Authorization: Bearer
"""

from __future__ import annotations

from django.urls import path

from backbeat_celery.views import complete

app_name = "backbeat_celery"
urlpatterns = [
    path("complete/", complete, name="complete"),
    path("complete/<str:token>/", complete, name="complete"),
]
