from django.apps import AppConfig, apps
from django.db.models.signals import pre_save
from django.utils.translation import gettext_lazy as _

from outbox.exceptions import ConfigurationError


class RelayConfig(AppConfig):
    name = "relay"
    label = "django_relay"
    verbose_name = _("Relay")
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        if not apps.is_installed("outbox"):
            raise ConfigurationError(
                "'relay' is in INSTALLED_APPS without 'outbox', which it stands on: add 'outbox', "
                "and run manage.py migrate."
            )
        super().import_models()

    def ready(self) -> None:
        from outbox.database.privileges import register_needs  # noqa: PLC0415
        from outbox.extensions.api import register_resources  # noqa: PLC0415
        from outbox.extensions.diagnosis import register_examiner  # noqa: PLC0415
        from outbox.extensions.flow import register_reporter  # noqa: PLC0415
        from outbox.extensions.resending import register_resending  # noqa: PLC0415
        from outbox.models import Message  # noqa: PLC0415
        from relay import checks, doctor, filtering, fixtures, instruments, retention  # noqa: F401, PLC0415
        from relay.models import Checkpoint, Parked  # noqa: PLC0415
        from relay.privileges import AT_START, PERSON, PRUNE, RELAY  # noqa: PLC0415
        from relay.reports import failures, gauges  # noqa: PLC0415
        from relay.reports.flow import RelayReporter  # noqa: PLC0415
        from relay.resend import RelayResending  # noqa: PLC0415

        register_needs("relay", RELAY, at_start=AT_START)
        register_needs("prune", PRUNE)
        register_needs("person", PERSON)
        pre_save.connect(fixtures.begin_anew, sender=Checkpoint)
        pre_save.connect(fixtures.detach, sender=Parked)
        retention.register()
        register_examiner("relay", doctor.examine, models=[Message, Checkpoint, Parked])
        register_reporter("relay", RelayReporter())
        register_resending(RelayResending())
        gauges.register()
        filtering.register_own()
        failures.register()
        register_resources("relay.api.resources")
