"""Settings for Django's own tests of tasks: a project with nothing but the outbox."""

SECRET_KEY = "tests"
USE_TZ = True
INSTALLED_APPS = ["outbox", "relay", "inbox"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TASKS = {"default": {"BACKEND": "tests.upstream.immediate.ImmediateOutboxBackend"}}
