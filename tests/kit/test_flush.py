"""How the tests' database is emptied after a test with real transactions."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from tests.testapp.management.commands import flush
from tests.testapp.models import Effect

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="it is Django's on SQLite"),
]
TABLE = Effect._meta.db_table


def empty() -> None:
    call_command("flush", interactive=False, reset_sequences=False, verbosity=0)
    assert not Effect.objects.exists()


def fill(count: int = 3) -> None:
    Effect.objects.bulk_create(
        Effect(key="a", number=number, message_id="m", handler="test") for number in range(count)
    )


def of_table(column: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM pg_class WHERE relname = %s", [TABLE])
        return cursor.fetchone()[0]


@pytest.fixture(autouse=True)
def _new_table() -> None:
    """Django's own flush has been here, and another one finds nothing to do."""
    call_command("flush", interactive=False, reset_sequences=False, verbosity=0)


def test_few_rows_are_deleted() -> None:
    """The table keeps its file: making new ones takes ten times as long."""
    file = of_table("relfilenode")
    fill()

    empty()

    assert of_table("relfilenode") == file


def test_what_has_grown_is_truncated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many dead rows would be read by each test that comes."""
    monkeypatch.setattr(flush, "SMALL", 0)
    file = of_table("relfilenode")
    fill()

    empty()

    assert of_table("relfilenode") != file


def test_statistics_are_forgotten() -> None:
    """A page that shows the server's estimate shows none of another test's rows."""
    fill()
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {TABLE}")
    assert of_table("reltuples") == 3

    empty()

    assert of_table("reltuples") <= 0


def test_nothing_makes_room_between_the_rows_of_a_test() -> None:
    """They stay in the order in which they were written, as in a new table."""
    assert "autovacuum_enabled=false" in str(of_table("reloptions"))
