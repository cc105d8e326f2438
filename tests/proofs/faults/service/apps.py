from django.apps import AppConfig


class FaultsConfig(AppConfig):
    name = "tests.proofs.faults.service"
    label = "faults"
    default_auto_field = "django.db.models.BigAutoField"
