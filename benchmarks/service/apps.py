from django.apps import AppConfig


class BenchConfig(AppConfig):
    name = "benchmarks.service"
    label = "bench"
    default_auto_field = "django.db.models.BigAutoField"
