from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class RelayConfig(AppConfig):
    name = "relay"
    label = "django_relay"
    verbose_name = _("Relay")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from outbox.health import register_examiner  # noqa: PLC0415
        from relay import checks, health, retention  # noqa: F401, PLC0415

        retention.register()
        register_examiner("relay", health.examine)
