"""System checks of the consumer."""

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.core.checks import CheckMessage, run_checks
from django.test import override_settings

from inbox.models import DeadLetter, Receipt
from outbox.models import Message

pytestmark = pytest.mark.sqlite


def found() -> list[CheckMessage]:
    return [message for message in run_checks() if str(message.id).startswith("inbox.")]


def ids() -> list[str | None]:
    return [message.id for message in found()]


@pytest.mark.parametrize("inbox", [[], {"PREFETCH": "many"}, {"PREFETCH": 0}, {"NOPE": 1}])
def test_settings_that_cannot_work_are_an_error(inbox: Any) -> None:
    """E001 says what is wrong with INBOX."""
    with override_settings(INBOX=inbox):
        assert ids() == ["inbox.E001"]


def test_good_settings_pass() -> None:
    """Nothing to say about settings as they should be."""
    with override_settings(INBOX={"PREFETCH": 10}):
        assert ids() == []


@pytest.mark.parametrize(
    ("inbox", "outbox", "found"),
    [
        (30, {}, []),
        (30, {"RETENTION": 30}, []),
        (30, {"RETENTION": timedelta(days=31)}, ["inbox.W001"]),
        (30, {"RETENTION": None}, ["inbox.W001"]),
        (None, {"RETENTION": None}, []),
        (timedelta(days=1), {"RETENTION": 2}, ["inbox.W001"]),
    ],
)
def test_a_window_shorter_than_what_can_come_back_is_told(
    inbox: Any, outbox: dict[str, Any], found: list[str]
) -> None:
    """W001: the receipt of a message is gone while the message can be replayed."""
    with override_settings(INBOX={"RETENTION": inbox}, OUTBOX=outbox):
        assert ids() == found


LOCAL = {"BACKEND": "relay.brokers.local.LocalBroker"}
AMQP = {"BACKEND": "relay.brokers.amqp.AMQPBroker", "URL": "amqp://host//"}


class Router:
    """Puts some models on the database "other"."""

    def __init__(self, *models: type, migrate: bool | None = None) -> None:
        self.models = models
        self.migrate = migrate

    def db_for_write(self, model: type, **hints: object) -> str | None:
        return "other" if model in self.models else None

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return self.migrate if app_label == "django_inbox" else None


@pytest.mark.parametrize(
    ("models", "outbox", "inbox"),
    [
        ([Receipt, DeadLetter], "default", "other"),
        ([Receipt], "default", "other"),
        ([Message], "other", "default"),
    ],
)
def test_a_local_broker_needs_the_receipts_beside_the_outbox(
    models: list[type], outbox: str, inbox: str
) -> None:
    """E002: its handlers run in the relay's transaction; both databases are named."""
    relays = {"archive": AMQP, "here": LOCAL}
    with override_settings(RELAYS=relays, DATABASE_ROUTERS=[Router(*models)]):
        [error] = found()

    assert error.id == "inbox.E002"
    assert "RELAYS['here']" in error.msg
    assert f"on the database {outbox!r}" in error.msg
    assert f"receipts on {inbox!r}" in error.msg
    assert "DATABASE_ROUTERS" in (error.hint or "")


def test_a_local_broker_needs_the_tables_beside_the_outbox() -> None:
    """E002 as well: nothing would be migrated there."""
    with override_settings(RELAYS={"default": LOCAL}, DATABASE_ROUTERS=[Router(migrate=False)]):
        [error] = found()

    assert error.id == "inbox.E002"
    assert "no tables of the inbox" in error.msg


@pytest.mark.parametrize(
    ("relays", "models"),
    [
        ({"default": LOCAL}, []),
        ({"default": LOCAL}, [Message, Receipt, DeadLetter]),
        ({"default": AMQP}, [Receipt]),
        ({"default": {**LOCAL, "OPTIONS": {"RECEIVER": "elsewhere.receive"}}}, [Receipt]),
        ({"default": "nonsense"}, [Receipt]),
        ([], [Receipt]),
    ],
)
def test_what_is_on_one_database_or_needs_not_be_passes(relays: Any, models: list[type]) -> None:
    """Both on one, or a broker between them, or a receiver that is not the inbox."""
    with override_settings(RELAYS=relays, DATABASE_ROUTERS=[Router(*models)]):
        assert ids() == []


@pytest.mark.parametrize(("seconds", "expected"), [(3600, ["inbox.W002"]), (3599, []), (None, [])])
def test_receipts_of_tasks_outlast_the_visibility_timeout(
    seconds: int | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W002: a copy of a task that comes after its receipt has gone would run."""
    import inbox.celery  # noqa: F401, PLC0415 - as a project with such tasks does

    options = {"visibility_timeout": seconds} if seconds else {}
    monkeypatch.setitem(current_app.conf, "broker_transport_options", options)
    kept = {"RETENTION": timedelta(hours=1)}
    with override_settings(INBOX=kept, OUTBOX={"RETENTION": timedelta(hours=1)}):
        assert ids() == expected
