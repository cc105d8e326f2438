"""The table of the log, as the reader relies on it."""

import pytest
from django.db import connection, transaction

import outbox
from outbox.models import Message
from outbox.producer import sql
from tests.outbox.helpers import rows
from tests.outbox.placed import Placed

pytestmark = [pytest.mark.django_db(transaction=True)]
postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="about PostgreSQL")


def fetch(statement: str, parameters: list[object] | None = None) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


@postgresql
def test_transaction_id():
    """Every row carries the id of the transaction that emitted it, also from savepoints."""
    with transaction.atomic():
        [(before,)] = fetch("SELECT pg_current_xact_id_if_assigned()::text")
        outbox.emit(Placed(1))
        with transaction.atomic():
            outbox.emit(Placed(2))
        outbox.emit_many([Placed(3)] * 120)
        [(own,)] = fetch("SELECT pg_current_xact_id()::text")
    with transaction.atomic():
        outbox.emit(Placed(4))
        [(next_own,)] = fetch("SELECT pg_current_xact_id()::text")

    assert before is None
    ids = [row.transaction_id for row in rows()]
    assert ids == [int(own)] * 122 + [int(next_own)]
    assert own != next_own


@postgresql
def test_the_transaction_id_is_taken_before_the_position():
    """PostgreSQL fills columns in their order, so the id's column stands before the position's."""
    names = [
        row[0]
        for row in fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            " AND NOT attisdropped ORDER BY attnum",
            [sql.TABLE],
        )
    ]

    assert names.index("transaction_id") < names.index("position")
    declared = [field.column for field in Message._meta.fields]  # for tables without migrations
    assert declared.index("transaction_id") < declared.index("position")
    assert set(names) == {field.column for field in Message._meta.fields}


@postgresql
def test_types_and_default():
    """xid8 with the running transaction's id as the default; identity; timestamptz; bytea."""
    types = dict(
        fetch(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0",
            [sql.TABLE],
        )
    )
    [(default,)] = fetch(
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_attribute"
        " ON attrelid = adrelid AND attnum = adnum"
        " WHERE adrelid = %s::regclass AND attname = 'transaction_id'",
        [sql.TABLE],
    )

    assert types["transaction_id"] == "xid8"
    assert types["position"] == "bigint"
    assert types["message_id"] == "uuid"
    assert types["time"] == "timestamp with time zone"
    assert types["data"] == "bytea"
    assert types["attributes"] == "jsonb"
    assert default == "pg_current_xact_id()"


@postgresql
def test_positions_are_not_cached():
    """The sequence hands out one position at a time: a cached one would be late."""
    [(cache,)] = fetch(
        "SELECT seqcache FROM pg_sequence"
        " WHERE seqrelid = pg_get_serial_sequence(%s, 'position')::regclass",
        [sql.TABLE],
    )

    assert cache == 1


@postgresql
def test_indexes():
    """Only the indexes that the reader and the admin need: each one slows every emit()."""
    names = {
        row[0]
        for row in fetch("SELECT indexname FROM pg_indexes WHERE tablename = %s", [sql.TABLE])
    }
    declared = {index.name for index in Message._meta.indexes}

    assert declared <= names
    assert len(names) == len(declared) + 2  # the primary key and the unique message id


@pytest.mark.sqlite
@pytest.mark.parametrize("count", [50, 150])
def test_positions_increase_in_order(count: int):
    """Positions increase with each row of a statement or a COPY, without a gap."""
    with transaction.atomic():
        envelopes = outbox.emit_many([Placed(number) for number in range(count)])

    assert [str(row.message_id) for row in rows()] == [each.id for each in envelopes]
    positions = [row.position for row in rows()]
    assert positions == list(range(positions[0], positions[0] + count))


@pytest.mark.sqlite
def test_message():
    """A row tells what it is, and its payload is bytes as emitted."""
    with transaction.atomic():
        envelope = outbox.emit(Placed(1, "a"), attributes={"tenant": "x"})
    [row] = rows()

    assert str(row) == f"tests.placed {envelope.id}"
    assert bytes(row.data) == envelope.data
    assert (row.time, row.attributes) == (envelope.time, {"tenant": "x"})


@pytest.mark.sqlite
def test_created_through_the_orm():
    """A row made by the ORM gets its transaction id from the database as well."""
    with transaction.atomic():
        envelope = outbox.emit(Placed(1))
        [row] = rows()
        row.position = None
        row.message_id = "0190d4f2-7b5e-7c3a-9f60-1d2c3b4a5f6e"
        fields = {
            field.attname: getattr(row, field.attname)
            for field in Message._meta.fields
            if field.name not in ("position", "transaction_id")
        }
        Message.objects.create(**fields)
    first, second = rows()

    assert str(first.message_id) == envelope.id
    assert first.transaction_id == second.transaction_id
