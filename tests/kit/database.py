"""What tests ask of the database behind Django's back."""

from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext

CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def terminate(pid: int) -> None:
    """End another session, and wait for that."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def exists_session(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchone() is not None


def statements(function: Callable[[], object]) -> list[str]:
    """Return what a call executes, without what opens and ends transactions and savepoints."""
    with CaptureQueriesContext(connection) as captured:
        function()
    return [query["sql"] for query in captured if not query["sql"].upper().startswith(CONTROL)]
