"""Columns that PostgreSQL has and Django has not."""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class TransactionIdField(models.BigIntegerField):  # type: ignore[type-arg]
    """A 64-bit transaction id (xid8) on PostgreSQL, a plain integer elsewhere."""

    description = "Transaction id"

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "xid8" if connection.vendor == "postgresql" else super().db_type(connection)

    def from_db_value(self, value: Any, *_: Any) -> int | None:
        return None if value is None else int(value)  # psycopg returns xid8 as text


class SnapshotField(models.TextField):  # type: ignore[type-arg]
    """A set of transaction ids (pg_snapshot) on PostgreSQL, text elsewhere."""

    description = "Snapshot"

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "pg_snapshot" if connection.vendor == "postgresql" else super().db_type(connection)


class CurrentTransactionId(models.Func):
    """The id of the running transaction; it takes one if there is none yet."""

    template = "0"
    output_field = TransactionIdField()
    allowed_default = True

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:
        return "pg_current_xact_id()", []
