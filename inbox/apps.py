from django.apps import AppConfig, apps
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from outbox.exceptions import ConfigurationError


class InboxConfig(AppConfig):
    name = "inbox"
    label = "django_inbox"
    verbose_name = _("Inbox")
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        if not apps.is_installed("outbox"):
            raise ConfigurationError(
                "'inbox' is in INSTALLED_APPS without 'outbox', which it stands on: add 'outbox', "
                "and run manage.py migrate."
            )
        super().import_models()

    def ready(self) -> None:
        from inbox import checks, doctor, failures, filtering, retention  # noqa: F401, PLC0415
        from inbox.django_tasks import registered, registration  # noqa: PLC0415
        from inbox.models import Binding, DeadLetter, Receipt  # noqa: PLC0415
        from inbox.privileges import AT_START, CONSUMER, PERSON, PRUNE  # noqa: PLC0415
        from inbox.replies import retention as replies_retention  # noqa: PLC0415
        from inbox.replies import taking  # noqa: PLC0415
        from inbox.reports import gauges  # noqa: PLC0415
        from inbox.reports.flow import InboxReporter  # noqa: PLC0415
        from inbox.sources import caller  # noqa: PLC0415
        from inbox.statements import answering  # noqa: PLC0415
        from outbox.database.privileges import register_needs  # noqa: PLC0415
        from outbox.extensions.api import register_resources  # noqa: PLC0415
        from outbox.extensions.diagnosis import register_examiner  # noqa: PLC0415
        from outbox.extensions.flow import register_reporter  # noqa: PLC0415
        from outbox.extensions.handling import register_handling  # noqa: PLC0415

        register_examiner("inbox", doctor.examine, models=[Receipt, DeadLetter, Binding])
        register_handling(caller.handle)
        register_reporter("inbox", InboxReporter())
        gauges.register()
        failures.register()
        register_resources("inbox.api.resources")
        register_needs("consume", CONSUMER, at_start=AT_START)
        register_needs("prune", PRUNE)
        register_needs("person", PERSON)
        retention.register()
        replies_retention.register()
        filtering.register_own()
        registration.install()
        autodiscover_modules("handlers", "processes")
        taking.install()
        answering.install()
        registered.note_start()
