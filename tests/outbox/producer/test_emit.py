"""emit(): what it writes, when, and what comes back."""

import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import IntegrityError, connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.message import codec, event_types
from outbox.models import Message
from outbox.producer import sql
from outbox.producer.writing import COPY_FROM
from tests.kit.sessions import sessions
from tests.outbox.helpers import Billed, Line, Packed, Rich, Size, logged, notes, rows, statements
from tests.outbox.placed import Placed

pytestmark = [pytest.mark.sqlite]

RICH = Rich(
    reference=uuid.UUID("0190d4f2-7b5e-7c3a-9f60-1d2c3b4a5f6e"),
    at=datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2))),
    day=date(2026, 2, 28),
    total=Decimal("12.50"),
    size=Size.LARGE,
    lines=[Line("a", Decimal("0.10")), Line("ü", Decimal("99999999999999999999.99"))],
    comment=None,
)


class Oops(Exception):
    """Rolls a block back."""


@pytest.mark.django_db(transaction=True)
class TestTransaction:
    """Events live and die with the caller's transaction."""

    def test_commit(self):
        """What is emitted in a transaction is in the log once it has committed."""
        with transaction.atomic():
            outbox.emit(Placed(1, "a"))

        assert notes() == ["a"]

    def test_rollback(self):
        """A transaction that rolls back emits nothing."""
        with pytest.raises(Oops), transaction.atomic():
            outbox.emit(Placed(1))
            raise Oops

        assert not Message.objects.exists()

    def test_savepoint_rollback(self):
        """A savepoint that rolls back takes its own events along and no others."""
        with transaction.atomic():
            outbox.emit(Placed(1, "before"))
            with pytest.raises(Oops), transaction.atomic():
                outbox.emit(Placed(1, "inside"))
                raise Oops
            outbox.emit(Placed(1, "after"))

        assert notes() == ["before", "after"]

    def test_other_connections_see_nothing_before_the_commit(self):
        """The relay reads nothing of a transaction that is open."""
        with transaction.atomic():
            outbox.emit(Placed(1))
            if connection.vendor == "postgresql":  # SQLite's test database is in memory
                with sessions(1) as [other]:
                    assert other.run(logged) == []

        assert len(logged()) == 1

    def test_required(self):
        """Outside a transaction emit() raises, and says what to do."""
        with pytest.raises(outbox.TransactionRequired, match=r"transaction\.atomic\(\)\."):
            outbox.emit(Placed(1))

        assert not Message.objects.exists()

    def test_required_by_emit_many_without_events(self):
        """A missing transaction is noticed before there are events to lose."""
        with pytest.raises(outbox.TransactionRequired):
            outbox.emit_many([])

    def test_manual_transaction(self):
        """A transaction opened by turning autocommit off is a transaction."""
        transaction.set_autocommit(False)
        try:
            outbox.emit(Placed(1, "dropped"))
            transaction.rollback()
            outbox.emit(Placed(1, "kept"))
            transaction.commit()
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)

        assert notes() == ["kept"]

    @pytest.mark.parametrize("count", [1, COPY_FROM])
    def test_broken_transaction(self, count: int):
        """In a transaction that can only roll back, nothing is emitted on any path."""
        with transaction.atomic():
            transaction.set_rollback(True)
            with pytest.raises(TransactionManagementError):
                outbox.emit_many([Placed(1)] * count)

        assert not Message.objects.exists()

    def test_after_a_database_error(self):
        """An error in an inner block leaves the outer one able to emit."""
        with transaction.atomic():
            [envelope] = outbox.emit_many([Placed(1, "a")])
            with pytest.raises(IntegrityError), transaction.atomic():
                row = Message.objects.get(message_id=envelope.id)
                Message.objects.bulk_create([Message(**_copy_of(row))])
            outbox.emit(Placed(1, "b"))

        assert notes() == ["a", "b"]


def _copy_of(row: Message) -> dict[str, object]:
    names = {field.attname for field in Message._meta.fields} - {"position", "transaction_id"}
    return {name: getattr(row, name) for name in names}


class TestInsideTestCase(TestCase):
    """The transaction around a TestCase is not the caller's."""

    def test_required(self):
        """A missing atomic() is noticed in a TestCase as it is in production."""
        with pytest.raises(outbox.TransactionRequired):
            outbox.emit(Placed(1))

    def test_own_block(self):
        """A block of the test's own is a transaction."""
        with transaction.atomic():
            outbox.emit(Placed(1, "a"))

        assert notes() == ["a"]

    def test_capture_on_commit_callbacks(self):
        """captureOnCommitCallbacks(execute=True) runs the wake-up without an error."""
        with self.captureOnCommitCallbacks(execute=True) as callbacks, transaction.atomic():
            outbox.emit(Placed(1, "a"))

        assert len(callbacks) == (connection.vendor == "postgresql")


@pytest.mark.django_db
def test_the_transaction_of_the_db_fixture_is_not_the_callers():
    """Under pytest's db fixture, too, a missing atomic() is noticed."""
    with pytest.raises(outbox.TransactionRequired):
        outbox.emit(Placed(1))


@pytest.mark.django_db(transaction=True)
class TestEnvelope:
    """What emit() returns is what the relay reads."""

    @pytest.mark.parametrize(
        "event",
        [
            Placed(7, "näh"),
            RICH,
            Packed(7, Decimal("1.5"), datetime(2026, 1, 1, tzinfo=UTC)),
            Billed(invoiceNumber="A/1", amount=Decimal("1.50"), at=datetime.now(UTC)),
        ],
        ids=lambda event: type(event).__name__,
    )
    def test_equals_what_is_read(self, event: object):
        """The returned envelope equals the relay's, and decodes to the event."""
        with transaction.atomic():
            envelope = outbox.emit(event)

        assert logged() == [envelope]
        event_type = event_types.registry.of_class(type(event))
        assert codec.decode(logged()[0], event_type) == event

    @pytest.mark.parametrize("count", [2, COPY_FROM])
    def test_of_many_equal_what_is_read(self, count: int):
        """Statement and COPY write the same: every column as the envelope has it."""
        drafts = [
            outbox.Draft(
                event="tests.plain",
                payload={"n": number, "text": "tab\tline\nback\\slash"},
                key=f"k\\{number % 7}" if number % 5 else None,
                subject="ä\\N" if number % 2 else None,
                attributes={"tenant": "a'b\"c\\", "count": -number, "flag": number % 2 == 0},
                correlation_id="flow" if number % 3 else None,
                causation_id="parent" if number % 4 else None,
            )
            for number in range(count)
        ]
        with (
            outbox.use_context(trace_parent="00-a-b-01", trace_state="x=" + "1" * 1000),
            transaction.atomic(),
        ):
            envelopes = outbox.emit_many(drafts)

        assert len(envelopes) == count
        assert logged() == envelopes

    def test_data_is_stored_byte_for_byte(self):
        """A body of bytes is neither parsed nor changed."""
        body = bytes(range(256))
        with transaction.atomic():
            envelope = outbox.emit("tests.plain", body, content_type="application/x-thing; v=1")

        assert logged() == [envelope]
        assert logged()[0].data == body
        assert logged()[0].content_type == "application/x-thing; v=1"

    def test_many_keep_their_order(self):
        """Positions follow the order of the arguments, within and across calls."""
        with transaction.atomic():
            outbox.emit_many([Placed(number, str(number)) for number in range(70)])
            outbox.emit_many([Placed(number, str(number)) for number in range(70, 250)])

        assert notes() == [str(number) for number in range(250)]

    def test_from_a_generator(self):
        """emit_many() takes any iterable, and drafts beside events."""
        with transaction.atomic():
            outbox.emit_many(
                each for each in (Placed(1, "a"), outbox.Draft(event=Placed(1, "b"), key="k"))
            )

        assert [row.key for row in rows()] == ["1", "k"]

    def test_nothing_to_emit(self):
        """emit_many() of nothing writes nothing and returns nothing."""
        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            assert outbox.emit_many([]) == []

        assert not statements(captured)


@pytest.mark.django_db
class TestDefaults:
    """What an event gets when the caller says nothing."""

    @pytest.fixture(autouse=True)
    def _transaction(self):
        with transaction.atomic():
            yield

    def test_identity(self, settings):
        """Id, source, time and correlation id are set; a first message causes itself."""
        settings.OUTBOX = {"SOURCE": "/shop"}
        before = datetime.now(UTC)
        envelope = outbox.emit(Placed(1))

        assert uuid.UUID(envelope.id).version == 7
        assert envelope.source == "/shop"
        assert before <= envelope.time <= datetime.now(UTC)
        assert envelope.correlation_id == envelope.id
        assert envelope.causation_id is None

    def test_declared_by_the_event_type(self):
        """Name, version, topic, key and subject come from the event type."""
        packed = outbox.emit(Packed(7, Decimal(1)))
        keyed = outbox.emit("tests.keyed", {"id": 5})
        rich = outbox.emit(RICH)

        assert (packed.type, packed.version) == ("tests.packed", 2)
        assert (packed.topic, packed.key, packed.subject) == ("warehouse.parcels", "7", None)
        assert (keyed.topic, keyed.key, keyed.subject) == ("tests.keyed", "5", "thing/5")
        assert (rich.key, rich.subject) == (None, str(RICH.reference))

    def test_given_by_the_caller(self):
        """Key and subject of the caller go before those of the event type."""
        envelope = outbox.emit("tests.keyed", {"id": 5}, key="mine", subject=uuid.UUID(int=1))

        assert (envelope.key, envelope.subject) == ("mine", str(uuid.UUID(int=1)))

    def test_enum_as_key(self):
        """An enum stands for its value."""
        assert outbox.emit(Placed(1), key=Size.LARGE).key == "l"

    def test_attributes(self):
        """Extension attributes are kept with their types."""
        attributes = {"tenant": "a", "count": -(2**31), "flag": True}
        assert outbox.emit(Placed(1), attributes=attributes).attributes == attributes

    def test_lane_by_key(self):
        """Messages with a key share a lane; those without spread over all."""
        outbox.emit_many([Placed(1)] * 20)
        assert len({row.lane for row in rows()}) == 1

        outbox.emit_many(outbox.Draft(event="tests.plain") for _ in range(200))
        assert {row.lane for row in rows()} == {0, 1, 2, 3}


@pytest.mark.django_db
class TestByName:
    """Emitting by the name of an event type."""

    @pytest.fixture(autouse=True)
    def _transaction(self):
        with transaction.atomic():
            yield

    def test_same_bytes_as_the_object(self):
        """A dict for a registered class is stored as the object would be, with its key."""
        by_name = outbox.emit("tests.placed", {"order_id": 7, "note": "a"})
        by_object = outbox.emit(Placed(7, "a"))

        assert (by_name.data, by_name.key) == (by_object.data, by_object.key)

    def test_nested_values_as_json_has_them(self):
        """Nested objects and special values may be given as JSON has them."""
        envelope = outbox.emit(
            "tests.rich",
            {
                "reference": str(RICH.reference),
                "at": "2026-03-01T12:30:15.123456+02:00",
                "day": date(2026, 2, 28),
                "total": "12.50",
                "size": "l",
                "lines": [{"sku": "a", "price": "0.10"}, RICH.lines[1]],
            },
        )

        assert envelope.data == outbox.emit(RICH).data
        assert envelope.subject == str(RICH.reference)

    def test_an_instance(self):
        """An instance of the event's class may be given with its name."""
        assert outbox.emit("tests.placed", Placed(7)).key == "7"

    def test_key_function_gets_an_instance(self, registered):
        """A key computed from the payload sees the event's class, however it was emitted."""
        registered("tests.computed", Line, key=lambda line: line.sku.upper())

        assert outbox.emit("tests.computed", {"sku": "a", "price": "1"}).key == "A"

    def test_pydantic_by_alias(self):
        """A pydantic model is written under its aliases, as it is read."""
        envelope = outbox.emit("tests.billed", {"invoiceNumber": "A/1", "amount": "1.5"})

        assert json.loads(envelope.data)["invoiceNumber"] == "A/1"

    def test_version(self, registered):
        """The newest version is taken unless another is asked for."""
        registered("tests.versioned", Line, version=1)
        registered("tests.versioned", version=3)

        assert outbox.emit("tests.versioned", {"new": 1}).version == 3
        assert outbox.emit("tests.versioned", {"sku": "a", "price": "1"}, version=1).version == 1

    @pytest.mark.parametrize("payload", [None, 0, "", [], [1, {"a": None}], {"é": 1.5}])
    def test_any_json(self, payload: object):
        """An event type without a class takes any JSON value."""
        assert json.loads(outbox.emit("tests.plain", payload).data) == payload


@pytest.mark.django_db(transaction=True)
class TestStatements:
    """How many statements it takes."""

    def test_one_for_an_event(self):
        """emit() is one INSERT."""
        with transaction.atomic():
            outbox.emit(Placed(1))
            with CaptureQueriesContext(connection) as captured:
                outbox.emit(Placed(1))

        assert [each[:6] for each in statements(captured)] == ["INSERT"]

    @pytest.mark.parametrize("count", [1, 50])
    def test_one_for_many_events(self, count: int):
        """emit_many() is one INSERT, however many events it is given."""
        with transaction.atomic(), CaptureQueriesContext(connection) as captured:
            outbox.emit_many([Placed(1)] * count)

        assert [each[:6] for each in statements(captured)] == ["INSERT"]

    def test_table(self):
        """The statements are about the model's table and its columns."""
        assert Message._meta.db_table == sql.TABLE
        columns = {field.column for field in Message._meta.fields}
        assert set(sql.COLUMNS) == columns - {"position", "transaction_id"}


@pytest.mark.django_db(transaction=True)
class TestAsync:
    """aemit() and aemit_many()."""

    def test_in_the_callers_transaction(self):
        """They write in the transaction of the code that awaits them."""

        async def work() -> None:
            envelope = await outbox.aemit(Placed(1, "a"), key="k")
            assert envelope.key == "k"
            await outbox.aemit_many([Placed(1, "b"), Placed(1, "c")])

        with pytest.raises(Oops), transaction.atomic():
            async_to_sync(work)()
            assert notes() == ["a", "b", "c"]
            raise Oops
        with transaction.atomic():
            async_to_sync(work)()

        assert notes() == ["a", "b", "c"]

    def test_context(self):
        """They inherit the context of the task."""

        async def work() -> outbox.Envelope:
            with outbox.use_context(correlation_id="flow"):
                return await outbox.aemit(Placed(1))

        with transaction.atomic():
            assert async_to_sync(work)().correlation_id == "flow"

    def test_required(self):
        """Without a transaction they raise, as emit() does."""
        with pytest.raises(outbox.TransactionRequired):
            async_to_sync(outbox.aemit)(Placed(1))
        with pytest.raises(outbox.TransactionRequired):
            async_to_sync(outbox.aemit_many)([Placed(1)])

    def test_a_synchronous_block(self):
        """Async code wraps transaction and emit() in one function for a thread."""

        @sync_to_async
        def place() -> None:
            with transaction.atomic():
                outbox.emit(Placed(1, "a"))

        async_to_sync(place)()
        assert notes() == ["a"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
class TestDatabases:
    """Several databases, each with an outbox of its own."""

    def test_using(self, other_database: str):
        """`using` names the database that the event goes to, and no other."""
        with transaction.atomic(using=other_database):
            outbox.emit(Placed(1, "a"), using=other_database)
            outbox.emit_many([Placed(1, "b")], using=other_database)

        assert len(rows(other_database)) == 2
        assert len(logged(other_database)) == 2
        assert rows() == []

    def test_transaction_on_the_wrong_database(self, other_database: str):
        """A transaction on another database is none, and the message says which is meant."""
        with (
            transaction.atomic(),
            pytest.raises(outbox.TransactionRequired, match=r"atomic\(using='other'\)"),
        ):
            outbox.emit(Placed(1), using=other_database)
        with (
            transaction.atomic(using=other_database),
            pytest.raises(outbox.TransactionRequired, match="'default'"),
        ):
            outbox.emit(Placed(1))

        assert rows() == rows(other_database) == []

    def test_router(self, other_database: str, settings):
        """Without `using` the routers decide, and the error names their database."""
        settings.DATABASE_ROUTERS = [ToOther()]
        with transaction.atomic(using=other_database):
            outbox.emit(Placed(1, "a"))
        with transaction.atomic(), pytest.raises(outbox.TransactionRequired, match="using='other'"):
            outbox.emit(Placed(1, "b"))

        assert len(rows(other_database)) == 1
        assert rows() == []


class ToOther:
    def db_for_write(self, model: type, **hints: object) -> str | None:
        return "other" if model is Message else None


@pytest.mark.django_db
class TestContext:
    """Correlation, causation and trace."""

    @pytest.fixture(autouse=True)
    def _transaction(self):
        with transaction.atomic():
            yield

    def test_inherited(self):
        """What is emitted while a message is handled belongs to its flow and trace."""
        with outbox.use_context(trace_parent="00-1-2-01", trace_state="a=1"):
            parent = outbox.emit(Placed(1))
        with outbox.use_context(outbox.Context.caused_by(parent)):
            child = outbox.emit(Placed(2))
        with outbox.use_context(outbox.Context.caused_by(child)):
            [grandchild] = outbox.emit_many([Placed(3)])

        assert child.correlation_id == grandchild.correlation_id == parent.id
        assert (child.causation_id, grandchild.causation_id) == (parent.id, child.id)
        assert (grandchild.trace_parent, grandchild.trace_state) == ("00-1-2-01", "a=1")

    def test_explicit(self):
        """What the caller gives goes before what is inherited."""
        with outbox.use_context(correlation_id="outer", causation_id="parent"):
            envelope = outbox.emit(Placed(1), correlation_id="mine", causation_id="cause")

        assert (envelope.correlation_id, envelope.causation_id) == ("mine", "cause")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="an option of PostgreSQL")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [1, 2, COPY_FROM])
def test_server_side_binding(count: int):
    """Parameters may be bound by the server, with statements that it has prepared."""
    usual = connections["default"]
    binding = usual.copy()
    binding.settings_dict["OPTIONS"] |= {"server_side_binding": True, "prepare_threshold": 0}
    connections["default"] = binding
    try:
        with transaction.atomic():
            drafts = [
                outbox.Draft(event="tests.plain", key=str(n), payload=n) for n in range(count)
            ]
            envelopes = outbox.emit_many([*drafts[1:], outbox.Draft(event=RICH)])
        read = logged()
        [(prepared,)] = binding.cursor().execute("SELECT count(*) FROM pg_prepared_statements")
    finally:
        binding.close()
        connections["default"] = usual

    assert read == envelopes
    assert prepared
