"""Settings of the example project, which shows outbox, relay and inbox at work.

It is made to be tried, not to be deployed: without any configuration it runs in debug mode on an
embedded PostgreSQL and a broker inside the process, and is the shop, billing and shipping in one.
The environment changes that:

DATABASE_URL   ``postgresql://user:password@host:port/name`` or ``sqlite:///path``
BROKER_URL     ``amqp://user:password@host:port/vhost``
SECRET_KEY     required as soon as DEBUG is off
DEBUG          1 (the default) or 0
ALLOWED_HOSTS  comma-separated
LOG_LEVEL      WARNING by default
SERVICE        shop, billing or shipping: to be this one alone, on a database of its own
CARRIER_URL    where the other project is, the carrier's, which is told of parcels by HTTP
FLOW_TOKEN     who has it may ask what is known of a conversation; the carrier's is the same
PEERS          where the other services are, to ask them that: name=url, comma-separated
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from project import database_url, environment

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = environment.flag("DEBUG", default=True)
SECRET_KEY = os.environ.get("SECRET_KEY", "insecure-key-of-the-example-project" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured("DEBUG is off and SECRET_KEY is not set: set it to a random string.")
ALLOWED_HOSTS = environment.names("ALLOWED_HOSTS")

SERVICES = ("shop", "billing", "shipping")
SERVICE = os.environ.get("SERVICE", "")
if SERVICE not in ("", *SERVICES):
    raise ImproperlyConfigured(f"SERVICE={SERVICE!r} is none of {', '.join(SERVICES)}.")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "outbox",
    "relay",
    "inbox",
    *(f"project.{service}" for service in SERVICES if SERVICE in ("", service)),
    "project.demo",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",  # the admin speaks what the browser asks for
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"  # what the admin shows; Django's default is Chicago's
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASE_URL = os.environ.get("DATABASE_URL", "")
DATABASES: dict[str, dict[str, Any]] = {
    "default": (
        database_url.parse(DATABASE_URL)
        if DATABASE_URL
        else {"ENGINE": "project.embedded", "NAME": "postgres"}
    ),
}

BROKER_URL = os.environ.get("BROKER_URL", "")

OUTBOX: dict[str, Any] = {"SOURCE": f"/{SERVICE or 'shop'}"}
INBOX: dict[str, Any] = {"STATEMENTS": True}
RELAYS: dict[str, dict[str, Any]] = {
    "default": (
        {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": BROKER_URL, "OPTIONS": {}}
        if BROKER_URL
        else {"BACKEND": "relay.brokers.local.LocalBroker"}
    ),
}

# What each service compares with what others have had of it. Buckets are short, so that nobody who
# tries this waits for a minute to be over.
_COMPARED = [
    ("shop", "billing", "shop.order.*"),
    ("shop", "shipping", "shop.order.*"),
    ("billing", "shipping", "billing.invoice.*"),
    ("shipping", "shop", "shipping.shipment.*"),
]
RECONCILE: dict[str, Any] = {
    group: {
        "TYPES": [
            types
            for sender, receiver, types in _COMPARED
            if SERVICE in ("", sender) and receiver == group
        ],
        "BUCKET": timedelta(seconds=1),
        "GRACE": timedelta(seconds=1),
    }
    for group in SERVICES
    if any(SERVICE in ("", sender) and group == receiver for sender, receiver, _ in _COMPARED)
}

CARRIER_URL = os.environ.get("CARRIER_URL", "")
FLOW_TOKEN = os.environ.get("FLOW_TOKEN", "")
FLOW: dict[str, Any] = {
    "PEERS": {
        name: {"URL": f"{url}/flow/", "TOKEN": FLOW_TOKEN}
        for name, url in environment.pairs("PEERS").items()
        if name != (SERVICE or "shop")
    }
}
if CARRIER_URL and SERVICE in ("", "shipping"):
    RELAYS["carrier"] = {
        "BACKEND": "project.shipping.carrier.CarrierBroker",
        "URL": f"{CARRIER_URL}/messages/",
        "OPTIONS": {"TOKEN": FLOW_TOKEN},
    }
if CARRIER_URL:
    FLOW["PEERS"]["carrier"] = {"URL": f"{CARRIER_URL}/flow/", "TOKEN": FLOW_TOKEN}

CELERY_BROKER_URL = BROKER_URL or "memory://"
CELERY_TASK_DEFAULT_QUEUE = "project.tasks"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"

EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "WARNING").upper()},
    # Django gives these handlers and levels of their own, louder than the rest.
    "loggers": {
        "django": {"handlers": [], "level": "NOTSET"},
        "django.server": {"handlers": [], "level": "NOTSET", "propagate": True},
    },
}
