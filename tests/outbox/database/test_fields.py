"""Columns that Django does not have, on each database."""

import pytest
from django.db import connection, connections

from outbox.database.fields import CurrentTransactionId, SnapshotField, TransactionIdField

SQLITE = connections.create_connection("other")


@pytest.mark.skipif(connection.vendor != "postgresql", reason="about PostgreSQL")
def test_types_on_postgresql():
    """On PostgreSQL they are its own types."""
    assert TransactionIdField().db_type(connection) == "xid8"
    assert SnapshotField().db_type(connection) == "pg_snapshot"


def test_types_elsewhere():
    """Elsewhere they are a number and a text."""
    assert TransactionIdField().db_type(SQLITE) == "bigint"
    assert SnapshotField().db_type(SQLITE) == "text"


@pytest.mark.parametrize(("stored", "value"), [("18446744073709551615", 2**64 - 1), (None, None)])
def test_transaction_id_from_text(stored: str | None, value: int | None):
    """psycopg hands out xid8 as text; Python sees a number, up to 64 bits."""
    assert TransactionIdField().from_db_value(stored, None, connection) == value


@pytest.mark.parametrize("field", [TransactionIdField(), SnapshotField()])
def test_deconstruct(field: object):
    """Migrations name the field by its path."""
    _, path, args, kwargs = field.deconstruct()
    assert path == f"outbox.database.fields.{type(field).__name__}"
    assert type(field)(*args, **kwargs).deconstruct()[1:] == (path, args, kwargs)


def test_current_transaction_id_compiles():
    """The default is a call on PostgreSQL and a constant elsewhere."""
    assert CurrentTransactionId().as_postgresql(None, connection) == ("pg_current_xact_id()", [])
    assert CurrentTransactionId.template == "0"
