"""System checks of the consumer."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from celery import current_app
from django.core.checks import CheckMessage, run_checks
from django.test import override_settings

from inbox.models import DeadLetter, Receipt
from outbox.message.envelope import Envelope
from outbox.models import Message
from tests.inbox.support import Handling
from tests.kit.support import Registered

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


def test_all_wrong_settings_are_told_at_once() -> None:
    """E001 for each, and for the URL as well; nothing of a URL is shown."""
    wrong = {
        "PREFETCH": 0,
        "RETRY_ATTEMPTS": 0,
        "RETRY_BASE": 10,
        "RETRY_CAP": 5,
        "SSL": {"check_hostname": 3},
        "URL": "amqp://shop:s3cret@host:port//",
    }
    with override_settings(INBOX=wrong):
        errors = found()

    assert [error.id for error in errors] == ["inbox.E001"] * 5
    told = "\n".join(error.msg for error in errors)
    for name in ("PREFETCH", "RETRY_ATTEMPTS", "RETRY_BASE", "check_hostname", "INBOX['URL']"):
        assert name in told
    assert "s3cret" not in told


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


@pytest.mark.parametrize(
    ("inbox", "outbox", "found"),
    [
        ({}, {}, []),
        ({"MAX_BYTES": 1024 * 1024}, {}, []),
        ({"MAX_BYTES": 1024 * 1024 - 1}, {}, ["inbox.W030"]),
        ({}, {"MAX_DATA_BYTES": 20 * 1024 * 1024}, ["inbox.W030"]),
    ],
)
def test_events_that_are_too_large_for_their_own_service_are_told(
    inbox: dict[str, Any], outbox: dict[str, Any], found: list[str]
) -> None:
    """W030: what may be emitted here must be receivable here."""
    with override_settings(INBOX=inbox, OUTBOX=outbox):
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


@pytest.mark.parametrize(
    ("apps", "expected"),
    [
        (["shop", "inbox"], ["inbox.W040"]),
        (("relay.apps.RelayConfig",), ["inbox.W040"]),
        (["shop", "inboxes"], []),
        (None, []),
    ],
)
def test_each_tenant_with_an_outbox_of_its_own_is_told(apps: Any, expected: list[str]) -> None:
    """W040: its log is read by nobody."""
    with override_settings(TENANT_APPS=apps):
        assert ids() == expected


class Sold(msgspec.Struct):
    number: int


def unannotated(event, message): ...
def anything(event: Any, message: Envelope) -> None: ...
def mapping(event: dict[str, Any], message: Envelope) -> None: ...
def either(event: Sold | dict[str, Any], message: Envelope) -> None: ...
def an_object(event: object, message: Envelope) -> None: ...
def unreadable(event: "Nowhere", message: Envelope) -> None: ...  # noqa: F821


def test_a_slip_in_a_type_is_told(handling: Handling, registered: Registered) -> None:
    """W060 names handler, pattern and the type that it looks like."""
    registered("tests.goods.sold")
    handling(name="typo", pattern="tests.goods.slod")
    handling(name="right", pattern="tests.goods.*")
    handling(name="other", pattern="warehouse.parcel.packed")

    [warning] = found()

    assert warning.id == "inbox.W060"
    assert "typo" in warning.msg
    assert "'tests.goods.slod'" in warning.msg
    assert "'tests.goods.sold'" in warning.msg


def test_a_version_that_a_group_misses_is_told(handling: Handling, registered: Registered) -> None:
    """W061, though a handler of every version is in the group; a group without any is no matter."""
    registered("tests.goods.sold", version=1)
    registered("tests.goods.sold", version=2)
    handling(name="first", pattern="tests.goods.sold", version=1)
    handling(name="audit", pattern="#", function=an_object)
    handling(name="apart", pattern="#", function=an_object, declared_group="apart")

    [warning] = found()

    assert warning.id == "inbox.W061"
    assert "'g' has no handler for tests.goods.sold v2" in warning.msg
    assert "first (v1)" in warning.msg

    handling(name="second", pattern="tests.goods.sold", version=2)
    assert found() == []


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (unannotated, "inbox.I062"),
        (anything, "inbox.I062"),
        (mapping, "inbox.W062"),
        (either, None),
        (an_object, None),
        (unreadable, None),
    ],
)
def test_what_a_registered_class_changes_for_a_pattern_is_told(
    function: Any, expected: str | None, handling: Handling, registered: Registered
) -> None:
    """Without a class a handler of the type gets plain JSON, with it an object: check says so."""
    registered("tests.goods.returned")
    handling(function, name="audit", pattern="tests.goods.*")
    assert found() == []

    registered("tests.goods.sold", Sold)
    told = found()

    assert [each.id for each in told] == ([expected] if expected else [])
    assert all("audit" in each.msg and "Sold for tests.goods.sold v1" in each.msg for each in told)
