"""Messages for later: written with the caller's data, delivered when due, cancellable till then."""

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY
from uuid import uuid4

import msgspec
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.message.lanes import lane_of
from outbox.models import Message, Scheduled
from outbox.producer import delivery_time as due_module
from outbox.producer import emit as emitting
from outbox.producer import scheduling
from outbox.producer.scheduling import deliver_due, next_due
from tests.kit.sessions import sessions
from tests.outbox.helpers import logged, notes, statements
from tests.outbox.models import Thing
from tests.outbox.placed import Placed

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]

PAST = datetime(2026, 1, 1, tzinfo=UTC)
FUTURE = datetime.now(UTC).replace(microsecond=123456) + timedelta(days=300)
needs_sessions = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="SQLite's test database is in memory"
)


class Oops(Exception):
    """Rolls a block back."""


def schedule(number: int = 1, note: str = "", **options: Any) -> outbox.Envelope:
    with transaction.atomic():
        return outbox.emit(Placed(number, note), **options)


class TestEmit:
    """What emit() does with deliver_at and delay."""

    def test_it_is_not_in_the_log_before_it_is_due(self):
        """A scheduled message waits in a table of its own, with all it has."""
        envelope = schedule(7, deliver_at=FUTURE)

        assert logged() == []
        [row] = Scheduled.objects.all()
        assert str(row.message_id) == envelope.id
        assert (row.type, row.key, row.due_at) == ("tests.placed", "7", FUTURE)

    def test_it_is_one_statement(self):
        """One scheduled message, or many, cost what one message does."""
        for drafts in (1, 3):
            with CaptureQueriesContext(connection) as captured, transaction.atomic():
                outbox.emit_many(
                    outbox.Draft(event=Placed(n), delay=60.5 + n) for n in range(drafts)
                )
            kept = [each for each in statements(captured) if "pg_notify" not in each]
            assert len(kept) == 1

    def test_it_needs_a_transaction(self):
        """Scheduled or not, event and data commit together."""
        with pytest.raises(outbox.TransactionRequired):
            outbox.emit(Placed(1), delay=1)

    def test_rollback(self):
        """What rolls back is not scheduled either."""
        with pytest.raises(Oops), transaction.atomic():
            outbox.emit(Placed(1), delay=1)
            raise Oops

        assert not Scheduled.objects.exists()

    def test_the_time_of_the_message_is_when_it_is_due(self):
        """The envelope says so at once, for a point in time and for a delay."""
        at, later = schedule(deliver_at=FUTURE), schedule(delay=timedelta(hours=1))

        assert at.time == FUTURE
        row = Scheduled.objects.get(message_id=later.id)
        assert later.time == row.due_at
        assert row.due_at - row.time > timedelta(minutes=59)

    def test_some_now_and_some_later(self):
        """emit_many() writes each where it belongs, and returns them in the order given."""
        with transaction.atomic():
            envelopes = outbox.emit_many(
                [
                    outbox.Draft(event=Placed(1), deliver_at=FUTURE),
                    Placed(2),
                    outbox.Draft(event=Placed(3), delay=90),
                    Placed(4),
                ]
            )

        assert [each.key for each in envelopes] == ["1", "2", "3", "4"]
        assert logged() == [envelopes[1], envelopes[3]]
        found = Scheduled.objects.order_by("pk").values_list("message_id", flat=True)
        assert [str(each) for each in found] == [envelopes[0].id, envelopes[2].id]

    def test_a_bad_one_among_many_writes_none(self):
        """Whatever it raises, nothing was written: not even what would have been at once."""
        with transaction.atomic(), pytest.raises(outbox.InvalidEvent):
            outbox.emit_many([Placed(1), outbox.Draft(event=Placed(2), delay=-1)])

        assert not Message.objects.exists()
        assert not Scheduled.objects.exists()

    def test_many_at_once(self):
        """More rows than one statement of SQLite could take."""
        with transaction.atomic():
            outbox.emit_many(
                outbox.Draft(event=Placed(1, str(n)), deliver_at=PAST) for n in range(2_500)
            )
        while deliver_due("default"):
            pass

        assert notes() == [str(n) for n in range(2_500)]

    @pytest.mark.django_db(transaction=True, databases=["default", "other"])
    def test_another_database(self, other_database: str):
        """`using` names where it waits, is cancelled and is delivered."""
        alias = other_database
        with transaction.atomic(using=alias):
            kept = outbox.emit(Placed(1), deliver_at=PAST, using=alias)
            gone = outbox.emit(Placed(2), deliver_at=PAST, using=alias)

        assert not outbox.cancel(gone.id)
        assert outbox.cancel(gone.id, using=alias)
        assert deliver_due("default") == 0
        assert deliver_due(alias) == 1
        assert logged(alias) == [kept]

    def test_recorded(self):
        """record() takes the options of emit(); the event is scheduled by save(), once."""
        thing = Thing.objects.create()
        thing.record(Placed(1), deliver_at=PAST)
        thing.save()
        thing.save()

        assert Scheduled.objects.count() == 1
        assert deliver_due("default") == 1
        thing.save()
        assert not Scheduled.objects.exists()

    def test_async(self):
        """aemit() and acancel() do the same for async code."""

        def waiting() -> int:
            return Scheduled.objects.count()

        async def run() -> tuple[int, bool, int]:
            atomic = transaction.atomic()
            await sync_to_async(atomic.__enter__)()
            envelope = await outbox.aemit(Placed(1), delay=10)
            await sync_to_async(atomic.__exit__)(None, None, None)
            before = await sync_to_async(waiting)()
            return before, await outbox.acancel(envelope.id), await sync_to_async(waiting)()

        assert async_to_sync(run)() == (1, True, 0)


class TestDeliver:
    """How what is due gets into the log."""

    def test_it_becomes_a_message_like_any_other(self):
        """Byte for byte the envelope that emit() returned, no longer scheduled."""
        envelope = schedule(
            7,
            deliver_at=PAST,
            subject="thing",
            attributes={"tenant": "acme", "flag": True},
            correlation_id="flow",
        )
        assert deliver_due("default") == 1

        assert logged() == [envelope]
        assert not Scheduled.objects.exists()
        assert deliver_due("default") == 0

    def test_only_what_is_due(self):
        """What has time left waits on."""
        schedule(1, "later", delay=600)
        schedule(2, "now", delay=0)
        schedule(3, "past", deliver_at=PAST)
        assert deliver_due("default") == 2

        assert notes() == ["past", "now"]

    def test_in_the_order_of_being_due(self):
        """Not in that of emission; equal times keep it."""
        for note, hours in (("d", 3), ("a", 1), ("b", 2), ("c", 2)):
            schedule(1, note, deliver_at=PAST + timedelta(hours=hours))
        deliver_due("default")

        assert notes() == ["a", "b", "c", "d"]

    def test_oldest_first_up_to_the_limit(self):
        """A batch takes what has been due longest."""
        for hours in (3, 1, 2):
            schedule(1, str(hours), deliver_at=PAST + timedelta(hours=hours))
        assert deliver_due("default", limit=2) == 2

        assert notes() == ["1", "2"]

    def test_lanes_are_those_of_the_day(self):
        """LANES may have changed since: the lane is the one that the key has now."""
        with override_settings(OUTBOX={"LANES": 64}):
            for number in range(20):
                schedule(number, deliver_at=PAST)
        with override_settings(OUTBOX={"LANES": 2}):
            deliver_due("default")

        for message in Message.objects.all():
            assert message.lane == lane_of(str(message.key), 2)

    def test_next_due(self):
        """Whether there is work, and how long there is none, by the database's clock."""
        assert next_due("default") == (False, None)
        schedule(delay=600)
        due, ahead = next_due("default")
        assert not due
        assert ahead == pytest.approx(600, abs=10)
        schedule(deliver_at=PAST)
        assert next_due("default") == (True, ANY)
        assert next_due("default")[1] == pytest.approx(600, abs=10)

    @needs_sessions
    def test_one_process_at_a_time(self):
        """Of two that delivered, the later messages of a key could commit first."""
        schedule(deliver_at=PAST)
        with transaction.atomic(), sessions(1) as [other]:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [scheduling.DELIVER_KEY])
            assert other.run(deliver_due, "default") == 0

        assert deliver_due("default") == 1

    def test_clocks_that_differ(self, monkeypatch: pytest.MonkeyPatch):
        """A delay counts by the clock of the database, also where the application's is wrong."""

        class Ahead(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime.now(tz) + timedelta(hours=5)

        monkeypatch.setattr(emitting, "datetime", Ahead)
        monkeypatch.setattr(due_module, "datetime", Ahead)
        schedule(delay=60)

        assert next_due("default")[1] == pytest.approx(60, abs=10)


class TestCancel:
    """Taken back, or too late."""

    def test_before_it_is_delivered(self):
        """It will not be published, also if it was due but not delivered yet."""
        for options in ({"deliver_at": FUTURE}, {"deliver_at": PAST}):
            assert outbox.cancel(schedule(**options).id)

        assert deliver_due("default") == 0
        assert not Scheduled.objects.exists()

    def test_too_late(self):
        """What is in the log is a fact."""
        envelope = schedule(deliver_at=PAST)
        deliver_due("default")

        assert not outbox.cancel(envelope.id)
        assert logged() == [envelope]

    def test_twice_and_unknown(self):
        """There is nothing left to cancel, or never was."""
        envelope = schedule(delay=9)

        assert outbox.cancel(envelope.id)
        assert not outbox.cancel(envelope.id)
        assert not outbox.cancel(uuid4())

    def test_no_message_id(self):
        """A text that is no UUID is a mistake, not an unknown message; it is told what to give."""
        with pytest.raises(outbox.InvalidMessageId, match=r"'order-7' is no message id.* `id` of"):
            outbox.cancel("order-7")

    def test_it_rolls_back_with_the_transaction(self):
        """Cancelled in a transaction that fails: it is published after all."""
        envelope = schedule(deliver_at=PAST)
        with pytest.raises(Oops), transaction.atomic():
            assert outbox.cancel(envelope.id)
            raise Oops
        deliver_due("default")

        assert logged() == [envelope]

    @needs_sessions
    def test_what_is_being_cancelled_holds_up_nothing(self):
        """A transaction that has cancelled and stays open: the others are delivered."""
        cancelled, other = schedule(1, deliver_at=PAST), schedule(2, deliver_at=PAST)
        with sessions(1) as [slow]:
            slow.begin()
            assert slow.run(outbox.cancel, cancelled.id)
            assert deliver_due("default") == 1
            slow.commit()

        assert deliver_due("default") == 0
        assert logged() == [other]

    @needs_sessions
    @pytest.mark.parametrize("delivered", [True, False])
    def test_it_waits_for_a_delivery(self, delivered: bool):
        """The row's lock decides: False if the delivery commits, True if it rolls back."""
        envelope = schedule(deliver_at=PAST)
        with sessions(2) as [mover, canceller]:
            mover.begin()
            mover.run(_deliver_within)
            answer = canceller.start(outbox.cancel, envelope.id)
            _wait_for_lock()
            (mover.commit if delivered else mover.rollback)()
            assert answer.result(30) is not delivered

        assert logged() == ([envelope] if delivered else [])


def _deliver_within() -> None:
    """Deliver in the transaction that is open, to hold it there."""
    with connection.cursor() as cursor:
        cursor.execute(scheduling.sql.PG_DELIVER, {"limit": 10, "lanes": 4})


def _wait_for_lock() -> None:
    with connection.cursor() as cursor:
        for _ in range(10_000):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
    raise AssertionError("nobody waits")


def test_drafts_take_the_same_options():
    """Draft and emit() agree on when a message is due."""
    with transaction.atomic():
        [one] = outbox.emit_many([outbox.Draft(event=Placed(1), deliver_at=FUTURE)])
        other = outbox.emit(Placed(1), deliver_at=FUTURE)

    assert msgspec.structs.replace(one, id=other.id, correlation_id=other.id) == other
