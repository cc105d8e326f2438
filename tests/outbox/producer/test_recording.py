"""EmitsEvents: recorded events commit with the row that recorded them, once."""

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, models, transaction
from django.db.models.signals import post_delete, post_save, pre_delete
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

import outbox
from tests.outbox.helpers import notes, rows, statements
from tests.outbox.models import ConcreteThing, OwnSave, SpecialThing, Thing, ThingProxy
from tests.outbox.placed import Placed
from tests.outbox.producer.things import Oops, listening, thing

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


class TestSave:
    """Row and events in one transaction."""

    def test_emits_what_was_recorded(self):
        """save() emits in the order of recording, and opens a transaction for it."""
        thing("a", "b").save()

        assert notes() == ["a", "b"]
        assert Thing.objects.count() == 1

    def test_once(self):
        """What was emitted is not emitted again."""
        made = thing("a")
        made.save()
        made.save()
        made.note("b")
        made.save()

        assert notes() == ["a", "b"]

    def test_once_within_a_transaction(self):
        """Not by a second save() before the commit either."""
        with transaction.atomic():
            made = thing("a")
            made.save()
            made.save()
            with transaction.atomic():
                made.save()

        assert notes() == ["a"]

    def test_one_statement_for_all(self):
        """However many events, they cost one statement beside the row's own."""
        with CaptureQueriesContext(connection) as captured:
            thing("a", "b", "c").save()

        inserts = [each for each in statements(captured) if each.startswith("INSERT")]
        assert len(inserts) == 2

    def test_without_events(self):
        """A save() without events says nothing to the outbox."""
        with CaptureQueriesContext(connection) as captured:
            Thing().save()

        assert len(statements(captured)) == 1

    def test_by_name_with_options(self):
        """record() takes what emit() takes."""
        made = Thing()
        made.record("tests.plain", {"a": 1}, key="k", attributes={"tenant": "x"})
        made.save()

        assert [(row.type, row.key, row.attributes) for row in rows()] == [
            ("tests.plain", "k", {"tenant": "x"})
        ]

    def test_wrong_option(self):
        """A misspelt option is noticed when it is recorded."""
        with pytest.raises(TypeError, match=r"record\(\) has no option .kee.; its options are key"):
            Thing().record("tests.plain", {}, kee="k")

    @pytest.mark.parametrize("wrap", [lambda function: function, partial])
    def test_function(self, wrap: Callable[..., Any]):
        """A function is called once the new row has its primary key."""
        made = Thing()
        made.record(wrap(lambda: Placed(order_id=made.pk)))
        made.save()

        assert rows()[0].key == str(made.pk)

    def test_new_row_without_a_function(self):
        """Its event has no primary key: the error says so, and what to do."""
        made = Thing()
        made.record(Placed(order_id=made.pk))
        with pytest.raises(outbox.InvalidEvent, match=r"A new Thing has no primary key.*lambda"):
            made.save()

        saved = Thing.objects.create()
        saved.record(Placed(order_id="one"))  # type: ignore[arg-type]
        with pytest.raises(outbox.InvalidEvent) as caught:
            saved.save()
        assert "lambda" not in str(caught.value)

    def test_method(self):
        """A bound method serves as well."""

        class Maker:
            def make(self) -> Placed:
                return Placed(1, "made")

        made = Thing()
        made.record(Maker().make)
        made.save()

        assert notes() == ["made"]

    def test_function_that_records(self):
        """What a function records in turn is emitted with the rest."""
        made = Thing()

        def first() -> Placed:
            made.note("second")
            return Placed(1, "first")

        made.record(first)
        made.save()

        assert notes() == ["first", "second"]

    def test_update_fields(self):
        """A partial save emits as any other."""
        made = thing("a", name="old", other="old")
        made.save()
        made.name = made.other = "new"
        made.note("b")
        made.save(update_fields=["name"])

        assert notes() == ["a", "b"]
        made.refresh_from_db()
        assert (made.name, made.other) == ("new", "old")

    @pytest.mark.filterwarnings("ignore:Passing positional arguments to save")
    @pytest.mark.skipif(django.VERSION >= (6,), reason="Django 6 takes keywords only")
    def test_positional_arguments(self):
        """save(force_insert, force_update, using, update_fields) works as in Django 5.2."""
        made = thing("a")
        made.save(True, False, "default", None)
        with pytest.raises(IntegrityError):
            made.save(True)

        assert notes() == ["a"]

    def test_create(self):
        """Through a manager: what __init__ or a signal records is emitted."""

        def record(sender: type, instance: Thing, **_: Any) -> None:
            instance.note("created")

        with listening(post_save, record):
            Thing.objects.create(name="a")

        assert notes() == ["created"]

    def test_asynchronous(self):
        """asave() and adelete() emit as their twins do."""
        made = thing("saved")
        async_to_sync(made.asave)()
        made.note("deleted")
        async_to_sync(made.adelete)()

        assert notes() == ["saved", "deleted"]


class TestDelete:
    """delete() emits as save() does."""

    def test_emits(self):
        """The row goes and the events are in the log."""
        made = thing()
        made.save()
        made.note("gone")
        assert made.delete() == (1, {"tests_outbox.Thing": 1})

        assert notes() == ["gone"]
        assert not Thing.objects.exists()

    def test_function(self):
        """A function sees the primary key that the instance loses by being deleted."""
        made = thing()
        made.save()
        pk = made.pk
        made.record(lambda: Placed(order_id=made.pk))
        made.delete()

        assert rows()[0].key == str(pk)

    def test_signals(self):
        """What signal handlers record during the deletion is emitted with it."""

        def before(sender: type, instance: Thing, **_: Any) -> None:
            instance.note("before")

        def after(sender: type, instance: Thing, **_: Any) -> None:
            instance.note("after")

        made = thing()
        made.save()
        made.note("recorded")
        with listening(pre_delete, before), listening(post_delete, after):
            made.delete()

        assert notes() == ["recorded", "before", "after"]

    def test_save_while_deleting(self):
        """What a handler's save() emits meanwhile is not emitted by the delete() again."""

        def save(sender: type, instance: Thing, **_: Any) -> None:
            instance.note("handler")
            instance.save()

        made = thing()
        made.save()
        made.note("recorded")
        with listening(pre_delete, save):
            made.delete()

        assert notes() == ["recorded", "handler"]

    def test_rolled_back(self):
        """Events of a deletion that rolls back return, and are emitted once by the next."""
        made = thing()
        made.save()
        made.note("gone")
        pk = made.pk
        with pytest.raises(Oops), transaction.atomic():
            made.delete()
            raise Oops
        made.pk = pk
        made.delete()

        assert notes() == ["gone"]

    def test_failed(self):
        """A delete() that fails forgets nothing."""

        def fail(**_: Any) -> None:
            raise Oops

        made = thing()
        made.save()
        made.note("gone")
        with listening(pre_delete, fail), pytest.raises(Oops):
            made.delete()
        assert notes() == []
        made.delete()

        assert notes() == ["gone"]

    def test_using(self):
        """`using` may be positional, as in Model.delete()."""
        made = thing()
        made.save()
        made.note("gone")
        made.delete("default")

        assert notes() == ["gone"]


class TestSignals:
    """Handlers of save signals take part."""

    def test_record(self):
        """What post_save records is emitted by the very save() that sent it."""

        def record(sender: type, instance: Thing, created: bool, **_: Any) -> None:
            instance.note(f"created={created}")

        made = thing("first")
        with listening(post_save, record):
            made.save()
            made.save()

        assert notes() == ["first", "created=True", "created=False"]

    def test_save_again(self):
        """A handler that saves again does not double the events."""

        def again(sender: type, instance: Thing, created: bool, **_: Any) -> None:
            if created:
                instance.note("again")
                instance.save()

        with listening(post_save, again):
            thing("first").save()

        assert notes() == ["first", "again"]

    def test_rollback(self):
        """What a handler recorded returns as well if the transaction rolls back."""

        def record(sender: type, instance: Thing, **_: Any) -> None:
            instance.note("signal")

        made = Thing()
        with listening(post_save, record), pytest.raises(Oops), transaction.atomic():
            made.save()
            raise Oops
        made.save(force_insert=True)

        assert notes() == ["signal"]


class TestKindsOfModel:
    """Every way that Django lets models be related by inheritance."""

    def test_proxy(self):
        """A proxy emits, and what it emitted is emitted for the model too."""
        made = ThingProxy()
        made.note("a")
        made.save()

        assert notes() == ["a"]

    def test_multi_table_inheritance(self):
        """Both tables and the events are one transaction, the events are emitted once."""
        made = SpecialThing(extra="x")
        made.note("a")
        made.save()
        made.note("b")
        made.delete()

        assert notes() == ["a", "b"]
        assert not Thing.objects.exists()

    def test_abstract_base(self):
        """An abstract base hands the mixin down."""
        made = ConcreteThing()
        made.note("a")
        made.save()

        assert notes() == ["a"]

    def test_own_save(self):
        """A save() of the model's own runs, and what it records is emitted by its super()."""
        OwnSave(name=" x ").save()
        OwnSave.objects.create(name="y")

        assert notes() == ["saving x", "saving y"]
        assert [each.name for each in OwnSave.objects.order_by("pk")] == ["x", "y"]

    def test_wrong_order_of_bases(self):
        """EmitsEvents right of Model would never emit: the class is refused."""
        with pytest.raises(outbox.ConfigurationError, match="to the left"):

            class Wrong(models.Model, outbox.EmitsEvents):
                class Meta:
                    app_label = "tests_outbox"

    def test_alters_data(self):
        """Templates cannot call save() and delete(), as with any model."""
        assert Thing.save.alters_data
        assert Thing.delete.alters_data


class TestInstances:
    """Where instances come from and go to."""

    @pytest.mark.parametrize(
        "copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))]
    )
    def test_copies(self, copied: Callable[[Thing], Thing]):
        """A copy does not emit what the original recorded; the original still does."""
        made = thing("a", name="x")
        other = copied(made)
        other.save()
        assert (notes(), other.name) == ([], "x")
        made.save()
        copied(made).save()
        assert notes() == ["a"]

        other.note("b")
        other.save()
        assert notes() == ["a", "b"]

    def test_copy_within_a_transaction(self):
        """Nor does a copy that was made between emit and commit."""
        with transaction.atomic():
            made = thing("a")
            made.save()
            other = pickle.loads(pickle.dumps(made))
        other.save()

        assert notes() == ["a"]

    def test_refresh_from_db(self):
        """Reading the row again leaves the events recorded."""
        made = thing()
        made.save()
        made.note("a")
        made.refresh_from_db()
        made.save()

        assert notes() == ["a"]

    def test_deferred_fields(self):
        """An instance with deferred fields emits, and saves only what it has."""
        thing(name="x", other="y").save()
        made = Thing.objects.only("name").get()
        made.name = "z"
        made.note("a")
        made.save()

        assert notes() == ["a"]
        assert Thing.objects.values_list("name", "other").get() == ("z", "y")

    def test_bulk_create(self):
        """bulk_create() and update() go past save() and emit nothing."""
        [made] = Thing.objects.bulk_create([thing("a")])
        Thing.objects.update(name="x")
        assert notes() == []

        made.save()
        assert notes() == ["a"]


class TestInsideTestCase(TestCase):
    """In a TestCase nothing commits, and still nothing is emitted twice."""

    def test_once(self):
        """Saved twice, emitted once, without a block of the test's own."""
        made = thing("a")
        made.save()
        made.save()

        assert notes() == ["a"]

    def test_capture_on_commit_callbacks(self):
        """Running the hooks early does not make the events come again."""
        made = thing("a")
        with self.captureOnCommitCallbacks(execute=True):
            made.save()
        made.save()

        assert notes() == ["a"]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
class TestDatabases:
    """The events go where the row goes."""

    def test_using(self, other_database: str):
        """save(using=) writes row and events there, and nothing elsewhere."""
        made = thing("a")
        made.save(using=other_database)
        made.note("b")
        made.save()
        made.delete()

        assert [row.key for row in rows(other_database)] == ["1", "1"]
        assert rows() == []

    @pytest.mark.filterwarnings("ignore:Passing positional arguments to save")
    @pytest.mark.skipif(django.VERSION >= (6,), reason="Django 6 takes keywords only")
    def test_positional_using(self, other_database: str):
        """The third positional argument of save() and the first of delete() name a database."""
        made = thing("a")
        made.save(False, False, other_database)
        made.note("b")
        made.delete(other_database)

        assert [row.key for row in rows(other_database)] == ["1", "1"]
        assert rows() == []

    def test_rollback_on_one_of_them(self, other_database: str):
        """A rollback on one database returns its events, and a commit on the other stands."""
        made = thing("a")
        with pytest.raises(Oops), transaction.atomic(using=other_database):
            made.save(using=other_database)
            made.note("b")
            made.save(using="default", force_insert=True)
            raise Oops
        made.save(using=other_database, force_insert=True)

        assert notes() == ["b"]
        assert len(rows(other_database)) == 1
