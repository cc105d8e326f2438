"""How long a statement may take that only looks."""

from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from outbox.database.limits import in_index_order, limited

pytestmark = [
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="others have no such limit"),
    pytest.mark.django_db(transaction=True),
]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET statement_timeout")
        cursor.execute("RESET jit")
        cursor.execute("RESET max_parallel_workers_per_gather")
        cursor.execute("RESET enable_bitmapscan")
        cursor.execute("RESET enable_sort")


def setting(name: str = "statement_timeout") -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return str(cursor.fetchone()[0])


def test_a_statement_that_takes_longer_is_ended() -> None:
    """And nothing of the limit is left, in a transaction of the caller's too."""
    before = setting()
    with pytest.raises(OperationalError), limited("default", 0.05), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(5)")
    assert setting() == before
    with transaction.atomic():
        with limited("default", 2.5):
            assert setting() == "2500ms"
        assert setting() == before


@pytest.mark.parametrize(
    ("own", "within"),
    [("300ms", "300ms"), ("5s", "2500ms"), ("2min", "2500ms"), ("1d", "2500ms"), ("0", "2500ms")],
)
def test_what_is_stricter_stays(own: str, within: str) -> None:
    """A role may have a limit of its own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [own])
    before = setting()
    with limited("default", 2.5):
        assert setting() == within
    assert setting() == before


@pytest.mark.parametrize(
    ("name", "own", "within"), [("jit", "on", "off"), ("max_parallel_workers_per_gather", "2", "0")]
)
def test_what_only_looks_takes_one_processor_and_is_not_compiled(
    name: str, own: str, within: str
) -> None:
    """A page of 0.2 ms took 1.6 s to be compiled, where its statement looked expensive."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, %s, false)", [name, own])
    with limited("default", 2.5):
        assert setting(name) == within
    assert setting(name) == own
    with transaction.atomic():
        with limited("default", 2.5):
            assert setting(name) == within
        assert setting(name) == own


def test_a_transaction_that_ends_takes_the_limit_with_it() -> None:
    """There it takes one statement; within a transaction of the caller's, one more to undo it."""
    with CaptureQueriesContext(connection) as captured, limited("default", 2.5):
        pass
    with (
        transaction.atomic(),
        CaptureQueriesContext(connection) as within,
        limited("default", 2.5),
    ):
        pass

    def settings(queries: CaptureQueriesContext) -> int:
        return sum("set_config" in each["sql"] for each in queries)

    assert (settings(captured), settings(within)) == (1, 2)


def test_without_seconds_there_is_none() -> None:
    """For what waits for others than the database."""
    before = setting()
    with limited("default", None):
        assert setting() == before
        assert not connection.in_atomic_block


@pytest.mark.parametrize("name", ["enable_bitmapscan", "enable_sort", "jit"])
def test_along_an_index_nothing_is_collected_and_sorted(name: str) -> None:
    """As long as the block lasts, in a transaction of the caller's too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config(%s, 'on', false)", [name])
    with in_index_order("default"):
        assert setting(name) == "off"
    assert setting(name) == "on"
    with transaction.atomic():
        with in_index_order("default"):
            assert setting(name) == "off"
        assert setting(name) == "on"
