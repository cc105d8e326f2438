"""Which database errors pass by themselves."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import (
    DatabaseError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

from outbox.database.failures import (
    AWAY,
    DENIED,
    ENDED,
    SHORT,
    UNREADY,
    is_out_of_memory,
    is_outage,
    is_unready,
    refusal,
    told,
)


@contextmanager
def caught() -> Iterator[list[Error]]:
    found: list[Error] = []
    try:
        yield found
    except Error as exc:
        found.append(exc)


def because(exc: Exception, state: str) -> Exception:
    """Return `exc` as Django raises it for an error of the server with this SQLSTATE."""
    exc.__cause__ = psycopg.Error()
    exc.__cause__.sqlstate = state
    return exc


@pytest.mark.parametrize("state", ["25006", "25P03", "25P04", "57P01", "57P05", "53100", "08006"])
@pytest.mark.parametrize("kind", [InternalError, DatabaseError, ProgrammingError])
def test_a_state_of_an_outage_is_one_in_any_exception(kind: type[Error], state: str) -> None:
    """The SQLSTATE decides, however the driver classifies it."""
    assert is_outage(because(kind("x"), state))


@pytest.mark.parametrize("state", ["25P02", "25001", "42P01", "XX000", "57014", "22000"])
def test_other_states_are_no_outage(state: str) -> None:
    """A mistake in a statement or in the use of transactions does not pass by itself."""
    assert not is_outage(because(InternalError("x"), state))


@pytest.mark.parametrize("exc", [OperationalError("x"), InterfaceError("connection closed")])
def test_a_lost_connection_is_an_outage(exc: Error) -> None:
    """The driver has no SQLSTATE for a server that it does not reach."""
    assert is_outage(exc)


@pytest.mark.parametrize("exc", [IntegrityError("x"), ProgrammingError("x"), ValueError("x")])
def test_what_says_nothing_of_an_outage_is_none(exc: Exception) -> None:
    """Without a SQLSTATE, and for what is no database error, there is no outage."""
    assert not is_outage(exc)


@pytest.mark.django_db(transaction=True)
def test_a_real_read_only_server_is_an_outage() -> None:
    """Writing where the server allows no writing, as after a failover."""
    with caught() as found, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute("CREATE TABLE never (id int)")

    assert isinstance(found[0], InternalError)
    assert is_outage(found[0])


@pytest.mark.django_db(transaction=True)
def test_a_real_failed_transaction_is_no_outage() -> None:
    """Going on in a transaction that has failed is a mistake of the caller's."""
    with caught() as found, transaction.atomic(), connection.cursor() as cursor:
        with pytest.raises(ProgrammingError):
            cursor.execute("SELECT * FROM nowhere")
        cursor.execute("SELECT 1")

    assert isinstance(found[0], InternalError)
    assert not is_outage(found[0])


@pytest.mark.sqlite
@pytest.mark.only_sqlite
@pytest.mark.django_db(databases=["default"])
def test_a_missing_table_of_sqlite_is_no_outage() -> None:
    """SQLite says OperationalError for it, and no waiting helps."""
    with caught() as found, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM nowhere")

    assert isinstance(found[0], OperationalError)
    assert not is_outage(found[0])


def test_a_locked_file_of_sqlite_is_an_outage(tmp_path: Path) -> None:
    """Another process that writes will be done some time."""
    path = tmp_path / "locked.sqlite3"
    with caught() as found:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        waiting = sqlite3.connect(path, timeout=0)
        try:
            with connections["other"].wrap_database_errors:
                waiting.execute("CREATE TABLE never (id int)")
        finally:
            waiting.close()
            holder.close()

    assert isinstance(found[0], OperationalError)
    assert is_outage(found[0])


SERVER = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'FATAL:  password authentication failed for user "shop"',
            'failed for user "shop". Correct USER and PASSWORD in DATABASES',
        ),
        (
            'FATAL:  database "shop" does not exist',
            'database "shop" does not exist. Correct NAME in DATABASES, or create it',
        ),
        (
            'FATAL:  role "shop" does not exist',
            'role "shop" does not exist. Correct USER in DATABASES',
        ),
        ("fe_sendauth: no password supplied", "Correct USER and PASSWORD in DATABASES"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "shop"', "Allow it in pg_hba"),
        ("Connection refused", ""),
        ("FATAL:  the database system is starting up", ""),
        ("FATAL:  sorry, too many clients already", ""),
    ],
)
def test_a_server_that_does_not_let_us_in_is_told_from_one_that_is_away(
    said: str, told: str
) -> None:
    """By what it says, with what to do about it; in any case it may pass."""
    exc = OperationalError(SERVER + said)
    assert is_outage(exc)
    assert told in refusal(exc)
    assert bool(told) is bool(refusal(exc))
    assert not refusal(ProgrammingError(SERVER + said))


def test_of_several_servers_one_may_only_be_away() -> None:
    """Then the others say nothing about it."""
    away = f'{SERVER}FATAL:  database "shop" does not exist\n- {SERVER}Connection refused'
    assert not refusal(OperationalError(away))


@pytest.mark.django_db(transaction=True)
def test_the_server_really_says_so() -> None:
    """Of a database that is not there."""
    if connection.vendor != "postgresql":
        pytest.skip("a file is made if it is not there")
    elsewhere = connection.copy()
    elsewhere.settings_dict["NAME"] = "not_there"
    with pytest.raises(OperationalError) as caught_:
        elsewhere.ensure_connection()
    assert refusal(caught_.value).startswith('database "not_there" does not exist. Correct NAME')


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL")
@pytest.mark.django_db(transaction=True)
def test_a_timeout_is_told_by_its_name() -> None:
    """The database is there: what is to be mended is a setting."""
    with (
        pytest.raises(OperationalError) as raised,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("SET LOCAL statement_timeout = 10")
        cursor.execute("SELECT pg_sleep(10)")

    sentence, reason = told(raised.value)
    assert sentence == ENDED
    assert reason.startswith("canceling statement due to statement timeout")
    assert "see statement_timeout of the role" in reason


ASK_FOR_TOO_MUCH = """
import resource, sys
import django
from django.db import Error, connections
django.setup()
from outbox.database import failures

connections["default"].settings_dict["NAME"] = sys.argv[1]
resource.setrlimit(resource.RLIMIT_DATA, (150 * 2**20, 150 * 2**20))
for statement, parameters in [
    ("SELECT repeat('x', 400 * 1024 * 1024)", []),
    ("SELECT repeat('x', 1024 * 1024) FROM generate_series(1, 400)", []),
    ("SELECT length(%s)", ["x" * (80 * 2**20)]),
]:
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute(statement, parameters)
    except (Error, MemoryError) as exc:
        print(failures.is_out_of_memory(exc), type(exc).__name__, str(exc)[:80])
    else:
        print("enough")
    connections["default"].close()
"""


@pytest.mark.slow
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's library")
@pytest.mark.django_db(transaction=True)
def test_a_process_without_memory_for_a_result_or_a_statement_is_told_from_an_outage() -> None:
    """PostgreSQL's library says so without any SQLSTATE, in words that differ."""
    name = str(connection.settings_dict["NAME"])
    ran = subprocess.run(
        [sys.executable, "-c", ASK_FOR_TOO_MUCH, name], capture_output=True, text=True, check=False
    )

    lines = ran.stdout.splitlines()
    assert len(lines) == 3, ran.stderr
    assert all(line.startswith("True ") for line in lines), lines


@pytest.mark.parametrize(
    ("exc", "told_so"),
    [
        (MemoryError(), True),
        (DatabaseError("out of memory for query result"), True),
        (OperationalError("sending query failed: cannot allocate memory for output buffer"), True),
        (because(OperationalError("out of memory"), "53200"), False),
        (OperationalError("server closed the connection unexpectedly"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_of_this_process_is_not_that_of_the_server(exc: Exception, told_so: bool) -> None:
    """A server without any passes; we have to ask for less."""
    assert is_out_of_memory(exc) is told_so
    if told_so:
        assert told(exc)[0] is SHORT
        assert is_outage(exc) is isinstance(exc, Error)


def test_other_outages_are_told_as_what_they_are() -> None:
    """Away, or there and closed to us."""
    refused = OperationalError('FATAL:  role "x" does not exist')
    assert told(OperationalError("server closed the connection")) == (
        AWAY,
        "server closed the connection",
    )
    assert told(refused) == (DENIED, refusal(refused))
    assert told(because(OperationalError("x"), "55P03"))[1].startswith("x; see lock_timeout of")


def test_a_missing_column_is_a_migration_that_is_to_come() -> None:
    """As a missing table is, of a dump that is being restored."""
    missing = because(ProgrammingError("column a.b does not exist\nLINE 1"), "42703")

    assert is_unready(missing)
    assert not is_outage(missing)
    assert told(missing) == (UNREADY, "column a.b does not exist; run manage.py migrate")
