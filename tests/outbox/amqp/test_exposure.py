"""What `check --deploy` tells of connections that give something away."""

import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.core.checks import CheckMessage, run_checks
from django.test import modify_settings, override_settings

from outbox.amqp.urls import ServerURL
from outbox.celery import apps_in_use

pytestmark = pytest.mark.sqlite

AMQP = "relay.brokers.amqp.AMQPBroker"
KOMBU = "relay.brokers.kombu.KombuBroker"
NONE: dict[str, Any] = {"RELAYS": {}, "INBOX": {}}


def found(deploy: bool = True, **settings: Any) -> list[CheckMessage]:
    ids = [f"{app}.W01{number}" for app in ("relay", "inbox") for number in range(3)]
    with override_settings(**(NONE | settings)):
        messages = run_checks(include_deployment_checks=deploy)
    return [each for each in messages if each.id in ids]


def of_relay(url: str, backend: str = AMQP, **options: Any) -> list[str]:
    relays = {"default": {"BACKEND": backend, "URL": url, "OPTIONS": options}}
    assert found(deploy=False, RELAYS=relays) == []
    messages = found(RELAYS=relays)
    assert "hunter2" not in str(messages)
    return [str(each.id) for each in messages]


CASES = [
    ("amqp://ann:hunter2@rabbit//", {}, ["W010"]),
    ("amqp://ann:hunter2@10.0.0.1//", {}, ["W010"]),
    ("amqp://guest:guest@rabbit//", {}, ["W010", "W011"]),
    ("amqp://rabbit//", {}, ["W010", "W011"]),
    ("amqps://guest:guest@rabbit//", {}, ["W011"]),
    ("amqps://ann:hunter2@rabbit//", {}, []),
    ("AMQPS://ann:hunter2@rabbit//", {}, []),
    ("amqps://rabbit//?login_method=EXTERNAL", {}, []),
    ("amqp://ann:hunter2@rabbit//", {"SSL": {"ca_certs": "x"}}, []),
    ("amqps://ann:hunter2@rabbit//", {"SSL": {"check_hostname": False}}, ["W012"]),
    ("amqps://ann:hunter2@rabbit//", {"SSL": {"cert_reqs": ssl.CERT_NONE}}, ["W012"]),
    ("amqp://guest:guest@localhost//", {}, []),
    ("amqp://guest:guest@127.3.2.1//", {}, []),
    ("amqp://guest:guest@[::1]//", {}, []),
    ("amqps://ann:hunter2@rabbit//;amqp://ann:hunter2@hare//", {}, ["W010"]),
    ("amqp://ann:hun ter2@rabbit//", {}, []),  # is an error
]


@pytest.mark.parametrize(("url", "options", "ids"), CASES)
def test_connections_of_relay_and_inbox(url: str, options: dict[str, Any], ids: list[str]) -> None:
    """Each server of a list counts; what stays on this machine does not."""
    assert of_relay(url, **options) == [f"relay.{each}" for each in ids]
    inbox = [str(each.id) for each in found(INBOX={"URL": url, **options})]
    assert inbox == [f"inbox.{each}" for each in ids]


def test_the_warning_says_where_and_what_to_do() -> None:
    """And shows no secret."""
    relays = {"main": {"BACKEND": AMQP, "URL": "amqps://h//;amqp://ann:hunter2@rabbit:1//"}}
    clear, guest = sorted(found(RELAYS=relays), key=lambda each: str(each.id))

    assert clear.msg == "RELAYS['main']: user and password go in the clear to amqp://rabbit:1//."
    assert "amqps://" in str(clear.hint)
    assert "amqps://h:5671//" in guest.msg


def test_a_relays_broker_is_told_once() -> None:
    """An inbox that takes it from there adds nothing, unless it changes it or there is no relay."""
    relays = {"default": {"BACKEND": AMQP, "URL": "amqp://ann:x@rabbit//"}}
    ids = [each.id for each in found(RELAYS=relays)]
    own = [each.id for each in found(RELAYS=relays, INBOX={"SSL": {"check_hostname": False}})]
    with modify_settings(INSTALLED_APPS={"remove": ["relay", "project.demo"]}):
        alone = [each.id for each in found(RELAYS=relays)]

    assert ids == ["relay.W010"]
    assert set(own) == {"relay.W010", "inbox.W012"}
    assert "inbox.W010" in alone


@pytest.mark.parametrize(
    ("url", "options", "ids"),
    [
        ("redis://:hunter2@hare/0", {}, ["relay.W010"]),
        ("redis://hare/0", {}, []),
        ("rediss://:hunter2@hare/0", {}, []),
        ("REDISS://:hunter2@hare/0", {}, []),
        ("redis://:hunter2@hare/0", {"SSL": {"ssl_ca_certs": "x"}}, []),
        ("rediss://:hunter2@hare/0?ssl_cert_reqs=none", {}, ["relay.W012"]),
        ("rediss://:hunter2@hare/0", {"SSL": {"ssl_check_hostname": False}}, ["relay.W012"]),
        ("redis://:hunter2@127.0.0.1/0;redis://:hunter2@hare/0", {}, ["relay.W010"]),
        ("redis+socket://:hunter2@/run/redis.sock", {}, []),
    ],
)
def test_connections_to_redis(url: str, options: dict[str, Any], ids: list[str]) -> None:
    assert of_relay(url, KOMBU, **options) == ids


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A Celery app that the checks know."""
    app = Celery("unit", set_as_current=False)
    monkeypatch.setattr(apps_in_use, "apps", {app})
    yield app
    app.close()


@pytest.mark.parametrize(
    ("url", "use_ssl", "ids"),
    [
        ("amqp://ann:hunter2@rabbit//", None, ["W010"]),
        ("amqp://guest:guest@rabbit//", None, ["W010", "W011"]),
        (["amqp://localhost//", "amqp://ann:hunter2@rabbit//"], None, ["W010"]),
        ("amqps://ann:hunter2@rabbit//", None, ["W012"]),
        ("amqp://ann:hunter2@rabbit//", True, ["W012"]),
        ("amqps://ann:hunter2@rabbit//", {"ca_certs": "x"}, ["W012"]),
        ("amqps://ann:hunter2@rabbit//", {"server_hostname": None}, []),
        ("amqps://ann:hunter2@rabbit//", {"server_hostname": "r", "cert_reqs": 0}, ["W012"]),
        ("rediss://:hunter2@hare/0", None, ["W012"]),
        ("rediss://:hunter2@hare/0", {"ssl_cert_reqs": ssl.CERT_REQUIRED}, []),
        ("rediss://:hunter2@hare/0?ssl_cert_reqs=CERT_REQUIRED", None, []),
        ("redis://:hunter2@hare/0", None, ["W010"]),
        ("memory://", None, []),
        ("amqp://guest:guest@localhost//", None, []),
    ],
    ids=str,
)
def test_what_celery_itself_connects_with(
    app: Celery, url: Any, use_ssl: Any, ids: list[str]
) -> None:
    """It sends what is sent outside of transactions, and its workers log in there."""
    app.conf.update(broker_url=url, broker_use_ssl=use_ssl)
    messages = found()

    assert [each.id for each in messages] == [f"relay.{each}" for each in ids]
    assert all(each.msg.startswith("Celery app 'unit': ") for each in messages)
    assert "hunter2" not in str(messages)


@pytest.mark.parametrize(
    ("url", "ids"),
    [
        (" amqp://ann:hunter2@rabbit//", ["relay.E010"]),
        ("amqp://ann:hun/ter2@rabbit//", ["relay.E010"]),
        ("rediss://:hun?ter2@hare/0", ["relay.E010"]),
        ("mongodb://ann:hunter2@h1:27017,h2:27017/", []),
    ],
)
def test_a_broker_of_celery_that_cannot_be_read_is_an_error(
    app: Celery, url: str, ids: list[str]
) -> None:
    """Celery would connect to this machine as guest; URLs of other transports are theirs."""
    app.conf.update(broker_url=url)
    relays = {"default": {"BACKEND": AMQP, "URL": "amqp://localhost//"}}
    with override_settings(RELAYS=relays):
        serious = [each for each in run_checks() if str(each.id).startswith("relay.")]

    assert [each.id for each in serious] == ids
    assert "ter2" not in str(serious)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("10.1.2.3", False),
        ("fe80::1%eth0", False),
        ("localhost.example", False),
    ],
)
def test_what_stays_on_this_machine(host: str, here: bool) -> None:
    assert ServerURL(scheme="amqp", host=host).here is here
