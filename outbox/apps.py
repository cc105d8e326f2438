import sys

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class OutboxConfig(AppConfig):
    name = "outbox"
    label = "django_outbox"
    verbose_name = _("Outbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from outbox import checks, examination, health  # noqa: F401, PLC0415

        health.register_examiner("outbox", examination.examine)
        if "celery" in sys.modules:  # else nothing here runs tasks, and its import takes time
            from outbox.celery import context  # noqa: F401, PLC0415
        autodiscover_modules("events")
