"""What statements are made of: rows of parameters, lists of states, times."""

from collections.abc import Sequence

from inbox.states import State
from outbox.database.dialect import PG_STATEMENT_NOW, SQLITE_STATEMENT_NOW


def names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)


def rows(width: int, count: int) -> str:
    return ", ".join([f"({', '.join(['%s'] * width)})"] * count)


def table(name: str, columns: dict[str, str], count: int, vendor: str) -> str:
    """Return `count` rows of parameters as a table; PostgreSQL wants to know their types."""
    values = rows(len(columns), count)
    if vendor == "postgresql":
        first = f"({', '.join(f'CAST(%s AS {each})' for each in columns.values())})"
        values = first + values.removeprefix(rows(len(columns), 1))
    return f"{name}({names(list(columns))}) AS (VALUES {values})"


def one_of(states: Sequence[State]) -> str:
    return f"IN ({', '.join(repr(state.value) for state in states)})"


def clock(vendor: str) -> str:
    """The database's clock, as it is now and not as it was when the transaction began."""
    return PG_STATEMENT_NOW if vendor == "postgresql" else SQLITE_STATEMENT_NOW


def in_utc(stamp: str, vendor: str) -> str:
    """Return a time without its zone, which sessions and USE_TZ have their own ideas of."""
    return f"{stamp} AT TIME ZONE 'UTC'" if vendor == "postgresql" else stamp


def later(seconds: str, vendor: str) -> str:
    if vendor == "postgresql":
        return f"{PG_STATEMENT_NOW} + {seconds} * interval '1 second'"
    return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', printf('%%+f seconds', {seconds}))"


def seconds_since(stamp: str, vendor: str) -> str:
    """The seconds since a time, null if there is none."""
    if vendor == "postgresql":
        return f"CAST(EXTRACT(EPOCH FROM {PG_STATEMENT_NOW} - {stamp}) AS float8)"
    return f"(julianday({SQLITE_STATEMENT_NOW}) - julianday({stamp})) * 86400.0"


def transaction_id(vendor: str) -> str:
    """The running transaction's id, which is assigned if there is a row; SQLite has none."""
    return "CAST(pg_current_xact_id() AS text)" if vendor == "postgresql" else "NULL"


def delete(table: str, column: str, count: int) -> str:
    """Delete rows by their numbers, which were locked before."""
    return f"DELETE FROM {table} WHERE {column} IN ({', '.join(['%s'] * count)})"
