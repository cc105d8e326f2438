"""The settings that the environment chooses."""

import importlib

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from outbox.conf import flaws_in
from outbox.statements.conf import read
from project import settings
from project.database_url import parse

pytestmark = pytest.mark.sqlite


def flaws_of(reconcile: object) -> list[str]:
    return list(flaws_in(read, reconcile))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Load the settings module under other variables, as a module of its own."""

    def load_with(**variables: str):
        for name in ("DATABASE_URL", "BROKER_URL", "SECRET_KEY", "DEBUG", "SERVICE", "PEERS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location("other_settings", settings.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load_with


def test_without_configuration_everything_is_embedded(load):
    """A newcomer needs no server."""
    loaded = load()

    assert loaded.DATABASES["default"]["ENGINE"] == "project.embedded"
    assert loaded.RELAYS["default"]["BACKEND"] == "relay.brokers.local.LocalBroker"


def test_the_urls_choose_the_servers(load):
    """DATABASE_URL and BROKER_URL replace the embedded defaults."""
    loaded = load(DATABASE_URL="postgresql://db/shop", BROKER_URL="amqp://mq//")

    assert loaded.DATABASES["default"]["HOST"] == "db"
    assert loaded.RELAYS["default"] == {
        "BACKEND": "relay.brokers.amqp.AMQPBroker",
        "URL": "amqp://mq//",
        "OPTIONS": {},
    }
    assert loaded.CELERY_BROKER_URL == "amqp://mq//"


def test_a_service_can_be_alone(load):
    """It has its own app, name, and what it compares with others; it does not ask itself."""
    loaded = load(SERVICE="billing", PEERS="shop=http://shop,billing=http://billing")

    apps = [each for each in loaded.INSTALLED_APPS if each.startswith("project.")]
    assert apps == ["project.billing", "project.demo"]
    assert loaded.OUTBOX["SOURCE"] == "/billing"
    assert {group: each["TYPES"] for group, each in loaded.RECONCILE.items()} == {
        "shipping": ["billing.invoice.*"]
    }
    assert set(loaded.FLOW["PEERS"]) == {"shop"}
    with pytest.raises(ImproperlyConfigured, match="none of shop, billing, shipping"):
        load(SERVICE="bling")


def test_together_they_are_the_shop_and_compare_all(load):
    """Each group is compared with, of whatever is sent to it."""
    loaded = load()

    assert loaded.OUTBOX["SOURCE"] == "/shop"
    assert {group: each["TYPES"] for group, each in loaded.RECONCILE.items()} == {
        "shop": ["shipping.shipment.*"],
        "billing": ["shop.order.*"],
        "shipping": ["shop.order.*", "billing.invoice.*"],
    }
    assert flaws_of(loaded.RECONCILE) == []


def test_without_debug_a_secret_key_is_required(load):
    """The key of the example never protects anything that is not an example."""
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY"):
        load(DEBUG="0")

    assert load(DEBUG="0", SECRET_KEY="random").SECRET_KEY == "random"


@pytest.mark.django_db
def test_the_database_of_the_tests_is_reached_by_its_url(database_url: str):
    """What child processes get as DATABASE_URL names the very database of the tests."""
    settings = parse(database_url)

    assert settings["NAME"] == str(connection.settings_dict["NAME"])
    assert settings["ENGINE"].endswith(connection.vendor.replace("sqlite", "sqlite3"))


def test_the_front_page_leads_to_the_admin(client):
    """There is nothing else to see."""
    assert client.get("/").headers["Location"] == "/admin/"
