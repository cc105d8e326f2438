from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class InboxConfig(AppConfig):
    name = "inbox"
    label = "django_inbox"
    verbose_name = _("Inbox")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from inbox import checks, health, retention  # noqa: F401, PLC0415
        from inbox.tasks import registration  # noqa: PLC0415
        from outbox.health import register_examiner  # noqa: PLC0415

        register_examiner("inbox", health.examine)
        retention.register()
        registration.install()
        autodiscover_modules("handlers")
