"""Statements that stay prepared, only in sessions of our own."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any

import pytest
from django.db import ProgrammingError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.database.failures import is_outage
from outbox.database.prepared import bound_cursor, counting_cursor, prepared_cursor
from tests.outbox.helpers import logged
from tests.outbox.placed import Placed

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="about PostgreSQL"),
]

VALUES = "SELECT %s::bigint, %s::text, %s::bytea, %s::boolean, %s::timestamp"


@contextmanager
def session(**options: Any) -> Iterator[BaseDatabaseWrapper]:
    """A connection of its own, with more OPTIONS."""
    made = connection.copy()
    made.settings_dict = {
        **connection.settings_dict,
        "OPTIONS": {**connection.settings_dict["OPTIONS"], **options},
    }
    with closing(made):
        yield made


def kept(used: BaseDatabaseWrapper) -> int:
    """Return how many statements the server keeps for a session."""
    with used.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        return int(cursor.fetchone()[0])


def run(cursor: Any, statement: str = "SELECT %s::text", *values: object) -> Any:
    with cursor:
        cursor.execute(statement, values or ("a",))
        return cursor.fetchone()


def test_a_statement_is_planned_once():
    """The server keeps it, under one name, however often it runs."""
    with session() as own:
        assert [run(prepared_cursor(own), "SELECT %s::text", each) for each in "abc"] == [
            ("a",),
            ("b",),
            ("c",),
        ]
        assert kept(own) == 1


def test_what_depends_on_its_values_is_planned_each_time():
    """bound_cursor() leaves the statement in the session, and with the setting no plan."""
    with session() as own:
        own.set_autocommit(False)
        run(own.cursor(), "SELECT set_config('plan_cache_mode', %s, true)", "force_custom_plan")
        for each in "abc":
            assert run(bound_cursor(own), "SELECT %s::text", each) == (each,)
        statement = "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
        assert run(own.cursor(), f"{statement} WHERE statement ~ %s", "::text$") == (0, 3)
        own.rollback()


@pytest.mark.parametrize("make", [prepared_cursor, bound_cursor, counting_cursor])
def test_the_values_are_those_of_a_plain_cursor(make):
    """Whichever way they travel."""
    values = (
        2**40,
        "grün",
        b"\x00\xff",
        True,
        datetime.fromisoformat("2026-11-24 12:00:00.000007"),
    )
    with session(prepare_threshold=0) as own:
        assert run(make(own), VALUES, *values) == run(own.cursor(), VALUES, *values) == values


def test_what_others_run_is_not_prepared():
    """The option of the connection stays what it was, also when a statement fails."""
    with session() as own:
        run(prepared_cursor(own))
        with pytest.raises(ProgrammingError):
            run(prepared_cursor(own), "SELECT %s::no_such_type")
        assert own.connection.prepare_threshold is None
        own.close()


def test_a_session_behind_a_pooler_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    """Whose server process is not the one that was announced: nothing stays in it."""
    with session() as own:
        own.ensure_connection()
        monkeypatch.setattr(
            type(own.connection.info), "backend_pid", property(lambda _: 1), raising=True
        )
        assert run(prepared_cursor(own)) == ("a",)
        assert kept(own) == 0


def test_a_session_that_was_reset_is_worth_a_new_connection():
    """DISCARD ALL takes the statements away; the relay connects anew."""
    with session() as own:
        run(prepared_cursor(own))
        own.cursor().execute("DISCARD ALL")
        with pytest.raises(Exception) as failed:  # noqa: PT011 - the driver decides on the type
            run(prepared_cursor(own))
        assert is_outage(failed.value)
        own.close()
        assert run(prepared_cursor(own)) == ("a",)


def test_logged_statements_show_their_values():
    """Where queries are logged, people want to read and repeat them."""
    with CaptureQueriesContext(connection) as captured:
        run(prepared_cursor(connection))

    assert [query["sql"] for query in captured] == ["SELECT 'a'::text"]


def test_the_application_decides_for_its_connections():
    """counting_cursor() prepares after prepare_threshold uses, and not without that option."""
    with session() as plain, session(prepare_threshold=2) as preparing:
        for own in (plain, preparing):
            for _ in range(4):
                run(counting_cursor(own))
        assert (kept(plain), kept(preparing)) == (0, 1)


def test_wrappers_see_what_is_executed():
    """What the application has put around its statements is around these as well."""
    seen: list[str] = []

    def look(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        run(prepared_cursor(connection))

    assert seen == ["SELECT %s::text"]


def test_no_snapshot_is_left_behind():
    """A transaction that stays open after bound_cursor() does not keep the server from cleaning."""
    with session() as own:
        own.set_autocommit(False)
        run(prepared_cursor(own), "SELECT %s::text FROM pg_class", "a")
        run(bound_cursor(own), "SELECT %s::text FROM pg_class", "a")
        pid = own.connection.info.backend_pid
        seen = run(
            connection.cursor(),
            "SELECT state, backend_xmin::text FROM pg_stat_activity WHERE pid = %s",
            pid,
        )
        own.rollback()

    assert seen == ("idle in transaction", None)


def test_a_single_event_is_inserted_by_a_prepared_statement(monkeypatch: pytest.MonkeyPatch):
    """Where the application has its connection prepare, and every column arrives as given."""
    connection.ensure_connection()
    monkeypatch.setattr(connection.connection, "prepare_threshold", 1)
    with transaction.atomic():
        envelopes = [
            outbox.emit(Placed(1, "a"), attributes={"tenant": "x\\y", "n": number}, subject=subject)
            for number, subject in enumerate(["s", None, "ä", None])
        ]
        stored = kept(connection)

    assert stored >= 1
    assert logged() == envelopes
