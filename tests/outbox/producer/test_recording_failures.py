"""What models have recorded, when saving fails or the transaction does not commit."""

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.models import Message
from tests.outbox.helpers import notes
from tests.outbox.models import Thing
from tests.outbox.placed import Placed
from tests.outbox.producer.things import Oops, listening, thing

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


class TestFailure:
    """Events stay with the instance until they are committed."""

    def test_failed_save(self):
        """A save() that fails emits nothing and forgets nothing."""
        Thing.objects.create(serial=1)
        made = thing("a", serial=1)
        with pytest.raises(IntegrityError):
            made.save()
        assert notes() == []

        made.serial = 2
        made.save()
        made.save()
        assert notes() == ["a"]

    def test_failed_save_in_a_transaction(self):
        """It leaves the surrounding transaction usable, where there were events to undo."""
        Thing.objects.create(serial=1)
        made = thing("a", serial=1)
        with transaction.atomic():
            with pytest.raises(IntegrityError):
                made.save()
            made.serial = 2
            made.save()

        assert notes() == ["a"]

    def test_failed_save_without_events_in_a_transaction(self):
        """What Django itself survives inside a transaction, EmitsEvents survives as well."""

        def refuse(**_: Any) -> None:
            raise Oops

        with transaction.atomic():
            with listening(pre_save, refuse), pytest.raises(Oops):
                thing().save()
            thing("kept").save()

        assert notes() == ["kept"]

    def test_refused_event_of_a_signal_in_a_transaction(self):
        """An event that is refused after the row was written leaves no row without its event."""

        def record(instance: Thing, **_: Any) -> None:
            instance.record(Placed(order_id=1, note="\x00"))

        with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
            with listening(post_save, record), pytest.raises(outbox.InvalidEvent):
                thing().save()
            Thing.objects.count()

        assert not Thing.objects.exists()

    def test_no_savepoint_without_events(self):
        """Inside a transaction, a save with nothing recorded costs what it costs in Django."""
        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            thing().save()

        assert len(captured) == 1

    def test_rolled_back_transaction(self):
        """Events of a transaction that rolls back return, before those recorded since."""
        made = thing("a")
        with pytest.raises(Oops), transaction.atomic():
            made.save()
            raise Oops
        made.note("b")
        made.save(force_insert=True)
        made.save()

        assert notes() == ["a", "b"]

    def test_rolled_back_savepoint(self):
        """So do those of a savepoint, within the same transaction."""
        made = thing("a")
        with transaction.atomic():
            with pytest.raises(Oops), transaction.atomic():
                made.save()
                raise Oops
            made.save(force_insert=True)
            made.save()

        assert notes() == ["a"]

    def test_outer_savepoint(self):
        """Also when the save() was in a savepoint of its own that had been released."""
        made = thing("a")
        with transaction.atomic():
            with pytest.raises(Oops), transaction.atomic():
                with transaction.atomic():
                    made.save()
                raise Oops
            made.save(force_insert=True)

        assert notes() == ["a"]

    def test_several_saves_rolled_back(self):
        """The events of several save() calls return in their order."""
        made = thing("a")
        with pytest.raises(Oops), transaction.atomic():
            made.save()
            made.note("b")
            made.save()
            raise Oops
        made.note("c")
        made.save(force_insert=True)

        assert notes() == ["a", "b", "c"]

    def test_only_the_savepoint_of_the_second_save(self):
        """Only what was rolled back is emitted again."""
        made = thing("a")
        with transaction.atomic():
            made.save()
            with pytest.raises(Oops), transaction.atomic():
                made.note("b")
                made.save()
                raise Oops
            made.save()

        assert notes() == ["a", "b"]

    def test_failing_commit_hook(self):
        """A hook of someone else that fails after the commit does not repeat the events."""

        def fail() -> None:
            raise Oops

        made = thing("a")
        with pytest.raises(Oops), transaction.atomic():
            transaction.on_commit(fail)
            made.save()
        made.save()

        assert notes() == ["a"]

    def test_refused_event(self):
        """An event that cannot be published fails the save(), and the row is not written."""
        made = thing("a")
        made.record("tests.plain", {"at": float("nan")})
        with pytest.raises(outbox.InvalidEvent):
            made.save()

        assert not Thing.objects.exists()
        assert not Message.objects.exists()

    def test_refused_event_in_a_transaction(self):
        """Within a transaction the rest of it stands."""
        with transaction.atomic():
            thing("a", name="good").save()
            made = Thing(name="bad")
            made.record("tests.nothing", {})
            with pytest.raises(outbox.UnknownEventType):
                made.save()

        assert [each.name for each in Thing.objects.all()] == ["good"]
        assert notes() == ["a"]

    def test_broken_function(self):
        """So does a function that raises."""

        def fail() -> Placed:
            raise Oops

        made = Thing()
        made.record(fail)
        with pytest.raises(Oops):
            made.save()

        assert not Thing.objects.exists()

    def test_manual_transaction(self):
        """With autocommit off, events follow the transaction as well."""
        if connection.vendor == "sqlite":
            pytest.skip("Django's atomic() commits on SQLite when autocommit is off")
        made = thing("a")
        transaction.set_autocommit(False)
        try:
            made.save()
            transaction.rollback()
            made.save(force_insert=True)
            transaction.commit()
            made.save()
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

        assert notes() == ["a"]


class TestCommitHooks:
    """What an on_commit hook does with the instance that has just been saved."""

    @staticmethod
    def save(made: Thing) -> None:
        made.save()

    @staticmethod
    def record_and_save(made: Thing) -> None:
        made.note("hook")
        made.save()

    @staticmethod
    def record_and_delete(made: Thing) -> None:
        made.note("hook")
        made.delete()

    @staticmethod
    def save_in_a_block_that_rolls_back(made: Thing) -> None:
        made.note("hook")
        with suppress(Oops), transaction.atomic():
            made.save()
            raise Oops
        made.save()

    @staticmethod
    def emit(made: Thing) -> None:
        with transaction.atomic():
            outbox.emit(Placed(1, "hook"))

    @staticmethod
    def record_and_save_in_a_thread(made: Thing) -> None:
        def work() -> None:
            try:
                TestCommitHooks.record_and_save(made)
            finally:
                connections.close_all()

        thread = Thread(target=work)
        thread.start()
        thread.join()

    @pytest.mark.parametrize("when", ["before", "after", "within"])
    @pytest.mark.parametrize(
        ("act", "notes_of_it"),
        [
            (save, []),
            (record_and_save, ["hook"]),
            (record_and_delete, ["hook"]),
            (save_in_a_block_that_rolls_back, ["hook"]),
            (emit, ["hook"]),
            (record_and_save_in_a_thread, ["hook"]),
        ],
    )
    def test_acts_again(self, when: str, act: Callable[[Thing], None], notes_of_it: list[str]):
        """It works, before the mixin's own hook and after it, and all later hooks run."""
        if act is TestCommitHooks.record_and_save_in_a_thread and connection.vendor == "sqlite":
            pytest.skip("a database in memory is that of one thread")
        ran: list[str] = []
        made = thing("a")
        with transaction.atomic():
            if when == "before":
                transaction.on_commit(lambda: act(made))
                transaction.on_commit(lambda: ran.append("second"))
            made.save()
            if when == "within":
                with transaction.atomic():
                    transaction.on_commit(lambda: act(made))
                    made.note("b")
                    made.save()
            if when == "after":
                transaction.on_commit(lambda: act(made))
            transaction.on_commit(lambda: ran.append("last"))

        assert ran == (["second", "last"] if when == "before" else ["last"])
        assert notes() == ["a", *(["b"] if when == "within" else []), *notes_of_it]
        if act is not TestCommitHooks.record_and_delete:
            made.save()
        assert notes() == ["a", *(["b"] if when == "within" else []), *notes_of_it]
        assert not made.__dict__["_emitted_events"]

    def test_save_and_a_failing_hook(self):
        """A hook that saves and then fails is the only one that fails."""

        def fail() -> None:
            made.save()
            raise Oops

        made = thing("a")
        ran: list[str] = []
        with transaction.atomic():
            transaction.on_commit(fail, robust=True)
            made.save()
            transaction.on_commit(lambda: ran.append("last"))

        assert ran == ["last"]
        assert notes() == ["a"]

    def test_instance_of_another_thread(self):
        """A thread that saves the instance meanwhile emits nothing of the other's transaction."""
        if connection.vendor == "sqlite":
            pytest.skip("a database in memory is that of one thread")
        made = thing("a")
        made.save()
        made.note("b")

        def work() -> None:
            try:
                Thing.objects.filter(pk=made.pk).exists()
                copied.save()
            finally:
                connections.close_all()

        with transaction.atomic():
            made.save()
            copied = made
            # Under another key, so that it does not wait for the row that we have locked.
            pk, made.pk = made.pk, None
            thread = Thread(target=work)
            thread.start()
            thread.join()
            made.pk = pk
        made.save()

        assert notes() == ["a", "b"]

    def test_hooks_that_compare_oddly(self):
        """Nothing is asked of the hooks of others, which may be any callable."""

        class Hook:
            def __eq__(self, other: object) -> bool:
                raise Oops

            def __call__(self) -> None:
                ran.append("odd")

        ran: list[str] = []
        made = thing("a")
        with transaction.atomic():
            transaction.on_commit(Hook())
            made.save()
            made.save()

        assert ran == ["odd"]
        assert notes() == ["a"]
