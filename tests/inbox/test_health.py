"""What the doctor finds about the inbox."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone
from kombu import Connection

from inbox import health
from inbox.models import DeadLetter, Receipt
from outbox.health import Finding, Level

pytestmark = pytest.mark.django_db


def found(id: str) -> list[Finding]:
    return [each for each in health.examine("default") if each.id == id]


@pytest.fixture
def group(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The only group with handlers, whose queue does not exist yet."""
    name = f"doctor-{uuid.uuid4()}"
    monkeypatch.setattr(health.handlers, "groups", lambda: {name: []})
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
    Receipt.objects.create(
        handler="billing.charge", source="/s", message_id=str(number), type="a.b", **values
    )


@pytest.mark.sqlite
def test_dead_receipts() -> None:
    """How many, and what the newest is; what is retrying is no matter for a person yet."""
    receipt(state="retrying")
    assert [each.level for each in found("inbox.receipts")] == [Level.OK]
    receipt(state="dead")
    receipt(state="dead")
    [one] = found("inbox.receipts")

    assert one.level == Level.WARNING
    assert one.figures["count"] == 2
    assert "2, the newest: billing.charge, a.b" in one.text


@pytest.mark.sqlite
def test_what_is_overdue_says_whose_it_is() -> None:
    """No consumer runs, or its handler is gone: then it says that."""
    receipt(state="retrying", next_attempt_at=timezone.now() - timedelta(seconds=5))
    assert [each.level for each in found("inbox.overdue")] == [Level.OK]
    receipt(state="retrying", next_attempt_at=timezone.now() - timedelta(minutes=5))
    [one] = found("inbox.overdue")

    assert one.level == Level.WARNING
    assert one.figures["count"] == 1
    assert "There is no handler billing.charge any more." in one.text


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
