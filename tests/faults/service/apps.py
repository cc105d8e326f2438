from django.apps import AppConfig


class FaultsConfig(AppConfig):
    name = "tests.faults.service"
    label = "faults"
    default_auto_field = "django.db.models.BigAutoField"
