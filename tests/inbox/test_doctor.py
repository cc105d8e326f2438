"""What the doctor finds about the inbox."""

import uuid
from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from django.utils import timezone
from kombu import Connection

import outbox
from inbox import RetryPolicy, doctor
from inbox.findings import dead
from inbox.models import DeadLetter, Receipt
from outbox.extensions.diagnosis import Finding, Level
from outbox.message.ids import uuid7_text
from tests.inbox.support import Handling
from tests.kit.support import Registered

pytestmark = pytest.mark.django_db


def found(id: str) -> list[Finding]:
    return [each for each in doctor.examine("default") if each.id == id]


@pytest.fixture
def group(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The only group with handlers, whose queue does not exist yet."""
    name = f"doctor-{uuid.uuid4()}"
    monkeypatch.setattr(doctor.handlers, "groups", lambda: {name: []})
    with override_settings(INBOX={"URL": broker_url}):
        yield name


@pytest.mark.sqlite
def test_dead_letters() -> None:
    """How many wait for a person, and what the newest is."""
    assert [each.level for each in found("inbox.dead")] == [Level.OK]
    for number in range(3):
        DeadLetter.objects.create(
            group="g",
            reason=DeadLetter.Reason.UNKNOWN_TYPE,
            error="no handler",
            type="a.b",
            headers="{}",
            body=b"",
            digest=str(number),
        )
    [one] = found("inbox.dead")

    assert one.level == Level.WARNING
    assert one.figures["count"] == 3
    assert "no handler for its type, a.b" in one.text


@pytest.mark.sqlite
def test_dead_letters_that_are_over_wait_for_nobody() -> None:
    """Processed after all, or discarded."""
    for state in ("processed", "discarded"):
        DeadLetter.objects.create(
            group="g", reason="undecodable", state=state, headers="{}", body=b"", digest=state
        )

    assert [each.level for each in found("inbox.dead")] == [Level.OK]


def receipt(**values: Any) -> None:
    number = Receipt.objects.count()
    about = {"handler": "billing.charge", "source": "/s", "message_id": str(number), "type": "a.b"}
    Receipt.objects.create(**about | values)


@pytest.mark.sqlite
def test_dead_receipts() -> None:
    """Of each handler how many, since when and why; what is retrying is for nobody yet."""
    receipt(state="retrying")
    assert [each.level for each in found("inbox.receipts")] == [Level.OK]
    since = timezone.now() - timedelta(hours=2)
    receipt(state="dead", received=since, error="ValueError: old")
    receipt(state="dead", error="ValueError: token=hunter2\nmore")
    receipt(state="dead", handler="shop.ship")
    first, second = found("inbox.receipts")

    assert {each.level for each in (first, second)} == {Level.WARNING}
    assert (first.about, first.figures["count"]) == ("billing.charge", 2)
    assert first.text.startswith(f"2, since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, 2 h ago")
    assert first.text.endswith("the newest: a.b. The last error: ValueError: token=•••")
    assert (second.about, second.figures["count"]) == ("shop.ship", 1)


@pytest.mark.sqlite
def test_dead_receipts_of_many_handlers() -> None:
    """The worst are named; the others are one finding, which is the same whoever they are."""
    for number in range(13):
        for _ in range(1 + (number < 10)):
            receipt(state="dead", handler=f"h{number}")
    *named, others = found("inbox.receipts")

    assert {each.about for each in named} == {f"h{number}" for number in range(10)}
    assert others.about == "others"
    assert "3 other handlers" in others.title
    assert others.figures["count"] == 3


@pytest.mark.sqlite
def test_a_handler_fails_since_its_oldest_message_that_is_not_over(handling: Handling) -> None:
    """Those that are dead already are older than those that are tried again."""
    handling(name="billing.charge")
    since = timezone.now() - timedelta(hours=2)
    receipt(state="dead", received=since)
    receipt(state="retrying", reason="failed", attempts=2)
    [one] = found("inbox.failing")

    assert "2 h ago" in one.text


@pytest.mark.sqlite
def test_what_is_overdue_says_whose_it_is(handling: Handling) -> None:
    """No consumer runs; of a handler that is gone another finding tells."""
    receipt(handler="gone", state="retrying", next_attempt_at=timezone.now() - timedelta(hours=5))
    handling(name="billing.charge")
    receipt(state="retrying", next_attempt_at=timezone.now() - timedelta(seconds=5))
    assert [each.level for each in found("inbox.overdue")] == [Level.OK]
    receipt(state="retrying", next_attempt_at=timezone.now() - timedelta(minutes=5))
    [one] = found("inbox.overdue")

    assert one.level == Level.WARNING
    assert one.figures["count"] == 1
    assert one.text == "1 message is due for over a minute: billing.charge."


@pytest.mark.sqlite
def test_a_handler_that_keeps_failing(handling: Handling) -> None:
    """Told before anything is dead: how many, since when, how often, and with what error."""
    handling(name="billing.charge", retry=RetryPolicy(attempts=9))
    since = timezone.now() - timedelta(hours=2)
    receipt(state="retrying", reason="failed", attempts=1, received=since, error="ValueError: one")
    receipt(state="retrying", reason="retry", attempts=5, received=since)
    assert found("inbox.failing") == []

    old = timezone.now() - timedelta(hours=1)
    receipt(
        state="retrying", reason="failed", attempts=7, received=since, error="E: old", changed=old
    )
    error = "KeyError: " + "x" * 500
    receipt(state="retrying", reason="failed", attempts=2, received=old, error=error)
    [one] = found("inbox.failing")

    assert one.level == Level.WARNING
    assert "billing.charge" in one.title
    assert one.text.startswith(f"2 messages, since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    assert "2 h ago, with up to 7 of 9 attempts" in one.text
    assert f"The last error: {error[:200]}" in one.text
    assert len(one.text) < 400
    assert one.figures["count"] == 2


@pytest.mark.sqlite
def test_an_error_of_a_handler_that_keeps_failing_is_masked(handling: Handling) -> None:
    """Also one of a receipt that is older than masking."""
    handling(name="billing.charge")
    receipt(state="retrying", reason="failed", attempts=2, error="Denied: password=hunter2\nx")
    [one] = found("inbox.failing")

    assert one.text.endswith("The last error: Denied: password=•••")


@pytest.mark.sqlite
def test_a_handler_still_keeps_failing_when_all_of_it_is_dead(handling: Handling) -> None:
    """It is worse then; nothing is owed any more when somebody has retried or discarded it."""
    handling(name="billing.charge", retry=RetryPolicy(attempts=3))
    receipt(state="retrying", reason="failed", attempts=2, error="E: no")
    [before] = found("inbox.failing")
    Receipt.objects.update(state="dead", attempts=3)
    [after] = found("inbox.failing")

    assert (after.title, after.about) == (before.title, before.about)
    assert after.text.startswith("1 message, 1 of them dead, ")
    assert "with up to 3 of 3 attempts. The last error: E: no" in after.text
    assert after.figures["dead"] == 1
    Receipt.objects.update(state="discarded")
    assert found("inbox.failing") == []


@pytest.mark.sqlite
def test_what_is_dead_at_once_does_not_keep_failing(handling: Handling) -> None:
    """A verdict, or a handler with one attempt."""
    handling(name="billing.charge")
    receipt(state="dead", reason="rejected", attempts=5)
    receipt(state="dead", reason="failed", attempts=1)

    assert found("inbox.failing") == []
    assert len(found("inbox.receipts")) == 1


@pytest.mark.sqlite
def test_many_failures_of_one_handler_hide_no_other(
    handling: Handling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the newest are counted, and each handler is told all the same."""
    monkeypatch.setattr(dead, "COUNTED", 2)
    for name in ("billing.charge", "shop.pay"):
        handling(name=name)
    options: dict[str, Any] = {"reason": "failed", "attempts": 2}
    for state in ("dead", "retrying"):
        receipt(state=state, handler="shop.pay", next_attempt_at=timezone.now(), **options)
        for _ in range(4):
            receipt(state=state, next_attempt_at=timezone.now(), **options)

    assert {each.about for each in found("inbox.receipts")} == {"billing.charge", "shop.pay"}
    titles = {each.title for each in found("inbox.failing")}
    assert titles == {f"Handler {name} keeps failing" for name in ("billing.charge", "shop.pay")}


@pytest.mark.sqlite
def test_the_handlers_beyond_those_that_are_named_are_one_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None falls silent because others fail more."""
    monkeypatch.setattr(dead, "NAMED", 2)
    for number in range(4):
        for _ in range(4 - number):
            receipt(state="retrying", handler=f"h{number}", reason="failed", attempts=2)

    for id_ in ("inbox.failing", "inbox.gone"):
        *named, others = found(id_)
        assert len(named) == 2
        assert others.about == "others"
        assert "2 other" in others.title


@pytest.mark.sqlite
def test_what_waits_for_a_handler_that_is_gone(handling: Handling) -> None:
    """At once, and not when it is overdue; what is done or dead is told otherwise, or is over."""
    later = timezone.now() + timedelta(hours=1)
    for state in ("processed", "dead", "discarded"):
        receipt(state=state)
    assert found("inbox.gone") == []
    receipt(state="retrying", next_attempt_at=later)
    receipt(state="waiting")
    [one] = found("inbox.gone")

    assert one.level == Level.WARNING
    assert "no handler billing.charge any more" in one.title
    assert "2 messages wait for it" in one.text

    handling(name="billing.charge")
    assert found("inbox.gone") == []


def letter(number: int, **values: Any) -> None:
    DeadLetter.objects.create(
        **{"group": "g", "reason": "unknown_type", "type": "ship.sailed", "source": "/port"}
        | values,
        headers="{}",
        body=b"",
        digest=str(number),
    )


@pytest.mark.sqlite
def test_events_that_a_group_has_not_asked_for(handling: Handling) -> None:
    """Another service may share its queue: which events, of whom, and what to do."""
    handling(pattern="shop.#")
    letter(1, type="shop.order.placed")
    letter(2, state="discarded")
    letter(3, reason="undecodable")
    assert found("inbox.strangers") == []
    letter(4)
    [one] = found("inbox.strangers")

    assert one.level == Level.WARNING
    assert "'g'" in one.title
    assert one.text == "1 dead letter: ship.sailed of /port."
    assert "OUTBOX['SOURCE'], INBOX['GROUP']" in one.hint


@pytest.mark.sqlite
@pytest.mark.django_db(databases=["default", "other"])
@override_settings(OUTBOX={"SOURCE": "/mine", "RETENTION": 7})
def test_another_service_with_our_source() -> None:
    """Messages that bear it and are not in the log, unless they are too old to be there."""
    with transaction.atomic():
        mine = outbox.emit("tests.happened", {"key": "k", "number": 1})
    with transaction.atomic(using="other"):
        there = outbox.emit("tests.happened", {"key": "k", "number": 1}, using="other")
    receipt(source="/mine", message_id=mine.id)
    receipt(source="/mine", message_id=there.id)
    receipt(source="/other", message_id=uuid7_text())
    receipt(source="/mine", message_id="0190163d-8694-739b-aea5-966c26f8ad91")  # of 2024
    receipt(source="/mine", message_id="42")
    assert found("inbox.source") == []

    stranger = uuid7_text()
    receipt(source="/mine", message_id=stranger)
    [one] = found("inbox.source")

    assert one.level == Level.WARNING
    assert "'/mine'" in one.title
    assert one.text.startswith("1 message bears it")
    assert stranger in one.text


@pytest.mark.sqlite
def test_what_the_local_broker_drops(handling: Handling, registered: Registered) -> None:
    """Types in the log that nobody handles; with another broker others may."""
    registered("tests.orphan")
    with transaction.atomic():
        outbox.emit("tests.happened", {"key": "k", "number": 1})
    with override_settings(RELAYS={"default": {"BACKEND": "relay.brokers.local.LocalBroker"}}):
        assert found("inbox.unhandled") == []
        with transaction.atomic():
            outbox.emit("tests.orphan", {})
        [one] = found("inbox.unhandled")
        assert one.level == Level.INFO
        assert "published: tests.orphan." in one.text
        handling(pattern="tests.*")
        assert found("inbox.unhandled") == []
        handling.forget()
    with override_settings(RELAYS={}):
        assert found("inbox.unhandled") == []


@pytest.mark.sqlite
def test_without_a_broker_there_are_no_queues() -> None:
    """The local broker hands messages straight to the handlers."""
    with override_settings(RELAYS={}, INBOX={}):
        assert [each.level for each in found("inbox.queue")] == [Level.OK]


def test_a_missing_queue_stays_missing(group: str) -> None:
    """The doctor declares nothing: the second look finds the same."""
    for _ in range(2):
        [one] = found("inbox.queue")
        assert one.level == Level.WARNING
        assert f"--group {group}" in one.hint


def test_a_queue_without_a_consumer(group: str, broker_url: str) -> None:
    """How much waits in it; and once somebody consumes, all is well."""
    with Connection(broker_url) as link:
        channel = link.channel()
        channel.queue_declare(group, auto_delete=False)
        try:
            [one] = found("inbox.queue")
            assert (one.level, one.figures["consumers"]) == (Level.WARNING, 0)
            tag = channel.basic_consume(group, callback=lambda message: None)
            [one] = found("inbox.queue")
            channel.basic_cancel(tag)
            assert (one.level, one.figures["consumers"]) == (Level.OK, 1)
        finally:
            channel.queue_delete(group)


def test_a_broker_that_is_away(group: str) -> None:
    """It says where, without the password."""
    with override_settings(INBOX={"URL": "amqp://guest:s3cret@127.0.0.1:1//"}):
        [one] = found("inbox.broker")

    assert one.level == Level.ERROR
    assert "s3cret" not in one.text
