"""Settings of the carrier. What they do not say is as in the other project's.

DATABASE_URL   its own database
FLOW_TOKEN     who has it may hand over messages, and ask what is known of a conversation
SHOP_URL       where the other project is, to ask it the same
"""

import os

from project import settings as shop
from project.settings import *  # noqa: F403

INSTALLED_APPS = [
    *(app for app in shop.INSTALLED_APPS if not app.startswith("project.")),
    "project.carrier",
]
ROOT_URLCONF = "project.carrier.urls"
OUTBOX = {"SOURCE": "/carrier"}
BROKER_URL = ""
RELAYS = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}
# Cookies know no ports: on one machine the login to one admin would end that to the other.
SESSION_COOKIE_NAME = "carrier_session"
CSRF_COOKIE_NAME = "carrier_csrf"

FLOW_TOKEN = os.environ.get("FLOW_TOKEN", "")
SHOP_URL = os.environ.get("SHOP_URL", "")
FLOW = {"PEERS": {"shop": {"URL": f"{SHOP_URL}/flow/", "TOKEN": FLOW_TOKEN}}} if SHOP_URL else {}
