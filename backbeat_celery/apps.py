"""Wiring: connect hooks and checks, nothing else."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BackbeatConfig(AppConfig):
    name = "backbeat_celery"
    verbose_name = _("Workflows")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Both register what is in them. A project may list its task modules itself: without
        # our tasks a worker would lose remote results, and nobody could send a map or chunks.
        from backbeat_celery import checks, tasks  # noqa: F401
        from backbeat_celery.notifications import mail
        from backbeat_celery.runtime import content_type
        from backbeat_celery.worker import signal_handlers

        content_type.introduce()
        signal_handlers.connect()
        mail.connect()
