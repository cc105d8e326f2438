import sys

from django.apps import AppConfig
from django.db.models.signals import pre_save
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class OutboxConfig(AppConfig):
    name = "outbox"
    label = "django_outbox"
    verbose_name = _("Outbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from outbox import carriers, checks, doctor  # noqa: F401, PLC0415
        from outbox.acknowledging import filtering as acknowledgements_filtering  # noqa: PLC0415
        from outbox.acknowledging import retention as acknowledgements_retention  # noqa: PLC0415
        from outbox.api import checks as api_checks  # noqa: F401, PLC0415
        from outbox.celery import checks as celery_checks  # noqa: F401, PLC0415
        from outbox.extensions import diagnosis  # noqa: PLC0415
        from outbox.failures import retention  # noqa: PLC0415
        from outbox.filtering import messages  # noqa: PLC0415
        from outbox.models import Message, Scheduled  # noqa: PLC0415
        from outbox.producer import fixtures  # noqa: PLC0415
        from outbox.replies import filtering as requests_filtering  # noqa: PLC0415
        from outbox.replies import retention as requests_retention  # noqa: PLC0415
        from outbox.runtime import outages  # noqa: F401, PLC0415
        from outbox.statements import filtering as breaks_filtering  # noqa: PLC0415
        from outbox.statements import retention as statements_retention  # noqa: PLC0415
        from outbox.telemetry import exporting, gauges  # noqa: PLC0415

        pre_save.connect(fixtures.append, sender=Message)
        diagnosis.register_examiner("outbox", doctor.examine, models=[Message, Scheduled])
        gauges.register()
        retention.register()
        exporting.install()
        messages.register_own()
        requests_filtering.register_own()
        requests_retention.register()
        acknowledgements_filtering.register_own()
        acknowledgements_retention.register()
        breaks_filtering.register_own()
        statements_retention.register()
        carriers.register()
        if "celery" in sys.modules:  # else nothing here runs tasks, and its import takes time
            from outbox.celery import context  # noqa: F401, PLC0415
        autodiscover_modules("events")
