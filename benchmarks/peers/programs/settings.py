"""Django settings of django-celery-outbox."""

import os
from urllib.parse import parse_qsl, urlsplit

_given = dict(parse_qsl(urlsplit(os.environ["DATABASE_URL"]).query))
SECRET_KEY = "bench"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django_celery_outbox", "benchmarks.peers.programs.orders"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _given["dbname"],
        "USER": _given.get("user", ""),
        "PASSWORD": _given.get("password", ""),
        "HOST": _given.get("host", ""),
        "PORT": _given.get("port", ""),
    }
}
CELERY_OUTBOX_APP = "benchmarks.peers.programs.celery_outbox.app"
MONITORING_METRICS_ENABLED = False
