"""Settings of the carrier. What they do not say is as in the other project's.

DATABASE_URL   its own database
FLOW_TOKEN     who has it may hand over messages, and ask what is known of a conversation
PEERS          where the services of the other project are, to ask them the same
"""

from project import environment
from project import settings as shop
from project.settings import *  # noqa: F403

INSTALLED_APPS = [
    *(app for app in shop.INSTALLED_APPS if not app.startswith("project.")),
    "project.carrier",
]
ROOT_URLCONF = "project.carrier.urls"
OUTBOX = {"SOURCE": "/carrier"}
INBOX = {}
RECONCILE = {}
BROKER_URL = ""
RELAYS = {"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}
FLOW = {
    "PEERS": {
        name: {"URL": f"{url}/flow/", "TOKEN": shop.FLOW_TOKEN}
        for name, url in environment.pairs("PEERS").items()
    }
}
# Cookies know no ports: on one machine the login to one admin would end that to the other.
SESSION_COOKIE_NAME = "carrier_session"
CSRF_COOKIE_NAME = "carrier_csrf"
