"""Columns that PostgreSQL has and Django has not."""

from datetime import UTC, datetime
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from outbox.database.instants import parameter, utc


class InstantField(models.DateTimeField):  # type: ignore[type-arg]
    """A point in time, which is in UTC in Python, whatever USE_TZ and TIME_ZONE say.

    For migrations it is a DateTimeField, which it is in the database.
    """

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", list(args), kwargs

    def get_default(self) -> Any:
        default = super().get_default()
        return utc(default) if isinstance(default, datetime) else default

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return utc(value) if isinstance(value, datetime) else value

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        value = value if prepared else self.get_prep_value(value)
        return parameter(value, connection) if isinstance(value, datetime) else value

    def from_db_value(
        self, value: datetime | None, _: Any, connection: BaseDatabaseWrapper
    ) -> datetime | None:
        if value is not None and connection.vendor != "postgresql":
            # Django has taken it for a time of the connection's zone, or of none.
            return value.replace(tzinfo=UTC)
        return None if value is None else utc(value)


class TransactionIdField(models.BigIntegerField):  # type: ignore[type-arg]
    """The id of the transaction that inserted the row: xid8 on PostgreSQL, an integer elsewhere.

    Every INSERT takes it from the running transaction, whatever the instance says: one of another
    time or cluster would mean something else here. So fixtures leave it out, and copies have their
    own.
    """

    description = "Transaction id"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.serialize = False

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        name, path, args, options = super().deconstruct()
        options.pop("serialize")  # always so, and nothing of the database's
        return name, path, list(args), options

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "xid8" if connection.vendor == "postgresql" else super().db_type(connection)

    def from_db_value(self, value: Any, *_: Any) -> int | None:
        return None if value is None else int(value)  # psycopg returns xid8 as text

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        # Nothing turns an integer into xid8, but what has no type yet becomes one.
        is_id = value is not None and connection.vendor == "postgresql"
        return f"{int(value)}" if is_id else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        return CurrentTransactionId() if add else super().pre_save(model_instance, add)


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
