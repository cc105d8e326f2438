from django.apps import AppConfig


class TestsOutboxConfig(AppConfig):
    """Models that emit, for these tests; as an app, so that Django finds them by name."""

    name = "tests.outbox"
    label = "tests_outbox"
    default_auto_field = "django.db.models.BigAutoField"
