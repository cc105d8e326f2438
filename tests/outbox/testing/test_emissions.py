"""What a test has emitted, asked for in its own transaction."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock
from uuid import UUID

import pytest
from django.db import transaction
from django.test import TestCase

import outbox
from outbox.exceptions import InvalidEvent, UndecodableMessage, UnknownEventType
from outbox.models import Message
from outbox.testing import (
    Captured,
    assert_emitted,
    assert_not_emitted,
    capture,
    emitted,
    messages,
    recorded,
    sent_tasks,
)
from tests.outbox.celery.support import new_app
from tests.outbox.helpers import Packed
from tests.outbox.models import Thing
from tests.outbox.placed import Placed
from tests.testapp.models import Effect

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite]


ONE = Decimal(1)


def close(order_id: int, at: datetime | None = None) -> None:
    """Be a task."""


def commit(*events: object, **options: Any) -> None:
    with transaction.atomic():
        for event in events:
            outbox.emit(event, **options)


class TestInATestCase(TestCase):
    """Its transaction never commits."""

    def test_emitted(self) -> None:
        """Events are there, decoded, as soon as they are emitted; what was rolled back is not."""
        with transaction.atomic():
            outbox.emit(Placed(1))
            assert emitted(Placed) == [Placed(1)]
        with pytest.raises(RuntimeError), transaction.atomic():
            outbox.emit(Placed(2))
            raise RuntimeError

        assert emitted() == [Placed(1)]

    def test_each_test_begins_with_nothing(self) -> None:
        """What another test of the class has emitted went with its transaction."""
        assert_not_emitted()


@pytest.mark.django_db(transaction=True)
def test_what_has_committed() -> None:
    """Where transactions commit the same is true."""
    commit(Placed(1), Placed(2))

    assert emitted(Placed, order_id=2) == [Placed(2)]


def test_events_are_in_the_order_of_emission() -> None:
    """Whatever their types and lanes are, and whether they are to enter the log later."""
    commit(Placed(1), Packed(2, ONE))
    commit(Placed(3), delay=3600)
    commit(Placed(4))

    assert emitted() == [Placed(1), Packed(2, ONE), Placed(3), Placed(4)]


def test_events_are_chosen() -> None:
    """By class, name, pattern, fields, or as a whole; matchers of values decide themselves."""
    commit(Placed(1, "a"), Placed(2, "b"), Packed(1, ONE))
    with transaction.atomic():
        outbox.emit("tests.plain", {"order_id": 1, "note": "c"})

    assert emitted(Placed) == emitted("tests.placed") == [Placed(1, "a"), Placed(2, "b")]
    assert emitted(Placed(2, "b")) == emitted(Placed, note="b") == [Placed(2, "b")]
    assert emitted("shop.*", order_id=2) == []
    plain = emitted("tests.plain")
    assert emitted("tests.*", order_id=1) == [Placed(1, "a"), Packed(1, ONE), *plain]
    assert emitted("tests.plain", note="c") == [{"order_id": 1, "note": "c"}]
    assert len(emitted(Placed, note=mock.ANY)) == 2
    assert emitted(Placed(2)) == []


@pytest.mark.parametrize(
    ("event", "fields", "error"),
    [
        ("tests.plaecd", {}, UnknownEventType),
        (int, {}, UnknownEventType),
        (Placed, {"oder_id": 1}, InvalidEvent),
        (Placed(1), {"note": ""}, InvalidEvent),
    ],
)
def test_what_no_event_could_match_is_an_error(
    event: object, fields: dict[str, Any], error: type[Exception]
) -> None:
    """Else a typing error would make assert_not_emitted() pass."""
    with pytest.raises(error):
        assert_not_emitted(event, **fields)


def test_assert_emitted_returns_the_first() -> None:
    """Of those that match, so that a test can go on with it."""
    commit(Placed(1, "a"), Placed(2, "b"), Placed(3, "b"))

    assert assert_emitted(Placed, note="b").order_id == 2
    assert assert_emitted(Placed, note="b", count=2) == Placed(2, "b")
    assert_not_emitted(Placed, note="c")


def test_a_failure_shows_what_was_emitted_instead() -> None:
    """Of the same type field by field, and what else there was."""
    commit(Packed(7, ONE), Placed(43, "a"))

    with pytest.raises(AssertionError) as failure:
        assert_emitted(Placed, order_id=42)

    assert str(failure.value) == (
        "tests.placed v1 with order_id=42 was not emitted. Emitted were:\n"
        "  tests.placed v1, key '43'\n"
        "-     order_id=42\n"
        "+     order_id=43\n"
        "      note='a'\n"
        "  tests.packed v2, key '7'\n"
        "      order_id=7\n"
        "      weight=Decimal('1')\n"
        "      at=None"
    )


def test_a_failure_says_how_often() -> None:
    """And a count that is wrong shows all."""
    commit(Placed(1), Placed(1))

    with pytest.raises(AssertionError, match=r"was 2 times emitted, 3 were expected\."):
        assert_emitted(Placed, count=3)
    with pytest.raises(AssertionError, match=r"tests\.placed v1 was emitted\. Emitted were:"):
        assert_not_emitted(Placed)
    with pytest.raises(AssertionError, match=r"was not emitted\. Emitted were:"):
        assert_emitted(Packed)
    with pytest.raises(ValueError, match="assert_not_emitted"):
        assert_emitted(Placed, count=0)


def test_a_failure_is_readable() -> None:
    """However much there was, and however long."""
    commit(*(Placed(number, "x" * 1000) for number in range(25)))

    with pytest.raises(AssertionError) as failure:
        assert_emitted(Placed, order_id=99)

    assert "and 5 more" in str(failure.value)
    assert len(str(failure.value)) < 7000


def test_nothing_at_all() -> None:
    """Is said as well."""
    with pytest.raises(AssertionError, match=r"Nothing was emitted\."):
        assert_emitted(Placed)


def test_capture_tells_a_block_apart() -> None:
    """What was before it and what comes after it does not count."""
    commit(Placed(1))
    with capture() as during:
        during.assert_not_emitted()
        commit(Placed(2))
        during.assert_emitted(Placed, order_id=2)
    commit(Placed(3))

    assert during.emitted() == [Placed(2)]
    assert emitted() == [Placed(1), Placed(2), Placed(3)]


@pytest.mark.django_db(databases=["default", "other"])
def test_another_database(other_database: str) -> None:
    """Has its own log, and can be asked for it."""
    with transaction.atomic(using=other_database):
        outbox.emit(Placed(1), using=other_database)

    assert_not_emitted()
    assert Captured(using=other_database).emitted() == [Placed(1)]


def test_messages_have_the_rest() -> None:
    """Id, key, correlation and extensions are those of the message that emit() returned."""
    with transaction.atomic():
        envelope = outbox.emit(Placed(1), correlation_id="flow", attributes={"tenant": "a"})

    [found] = messages(Placed)
    assert found == envelope
    assert (found.key, found.correlation_id, found.attributes) == ("1", "flow", {"tenant": "a"})


def test_recorded_events_of_an_instance() -> None:
    """They are there until the instance is saved, functions called, and chosen as emitted ones."""
    thing = Thing(serial=3)
    thing.record(Placed(1, "a"))
    thing.record(lambda: Packed(thing.serial or 0, ONE))
    thing.record("tests.placed", {"order_id": 2})

    assert recorded(thing) == [Placed(1, "a"), Packed(3, ONE), Placed(2)]
    assert recorded(thing, Placed, order_id=2) == [Placed(2)]
    assert_not_emitted()

    thing.save()

    assert recorded(thing) == []
    assert emitted() == [Placed(1, "a"), Packed(3, ONE), Placed(2)]


def test_only_what_emits_has_recorded_anything() -> None:
    """The error names the class."""
    with pytest.raises(TypeError, match="Effect records no events"):
        recorded(Effect())  # type: ignore[arg-type]


def test_sent_tasks() -> None:
    """They are no events; their arguments are those that the worker gets."""
    app = new_app()
    task = app.task(name="tests.close", outbox_key="order-{order_id}")(close)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with transaction.atomic():
        result = task.delay(7, at=at)
        app.send_task("tests.other", [UUID(int=1)], countdown=60, queue="slow")
        outbox.emit(Placed(1))

    first, second = sent_tasks()
    assert (first.name, first.id, first.args) == ("tests.close", result.id, (7,))
    assert (first.kwargs, first.key) == ({"at": at}, "order-7")
    assert (second.args, second.key, second.routing_key) == ((UUID(int=1),), None, "slow")
    assert second.headers["eta"] is not None
    assert sent_tasks(task) == sent_tasks("tests.close") == [first]
    assert emitted() == [Placed(1)]


@pytest.mark.parametrize("protocol", [1, 2])
def test_tasks_in_any_form(protocol: int) -> None:
    """Of both of Celery's protocols, compressed, and with another serializer; but never pickled."""
    app = new_app(task_protocol=protocol)
    task = app.task(name="tests.close")(close)
    with transaction.atomic():
        task.apply_async((7,), compression="gzip")
        task.apply_async((8,), serializer="yaml")
        task.apply_async(args=(9,), serializer="pickle")

    with pytest.raises(UndecodableMessage, match="pickled"):
        sent_tasks()
    Message.objects.filter(pk=Message.objects.latest("position").pk).delete()
    assert [each.args for each in sent_tasks(task)] == [(7,), (8,)]


def test_sent_tasks_takes_a_task() -> None:
    """Anything else would match nothing."""
    with pytest.raises(TypeError, match="takes a task"):
        sent_tasks(timedelta(1))
