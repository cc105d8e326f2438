"""The migrations of the consumer."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import connection

from inbox.models import Receipt
from tests.inbox.support import Handling, effects, happened, receive

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


@contextmanager
def migrated_to(name: str) -> Iterator[None]:
    """Go back to a migration, and forth again at the end."""
    call_command("migrate", "django_inbox", name, verbosity=0)
    try:
        yield
    finally:
        call_command("migrate", "django_inbox", verbosity=0)


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, Receipt._meta.db_table))


def test_back_and_forth(handling: Handling) -> None:
    """They can be undone and done again, and the inbox works afterwards."""
    with migrated_to("zero"):
        assert Receipt._meta.db_table not in connection.introspection.table_names()
    handling()
    receive(happened())

    assert effects() == [1]


def test_the_index_on_correlation_ids_comes_and_goes() -> None:
    """With a migration of its own."""
    with migrated_to("0001"):
        assert "inbox_correlation" not in indexes()

    assert "inbox_correlation" in indexes()


def test_receipts_are_searched_by_correlation_with_an_index() -> None:
    """As the admin does; receipts of messages without one take no room in it."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # For an empty table the planner would not bother.
            cursor.execute("SET enable_seqscan = off")
        try:
            plan = Receipt.objects.filter(correlation_id="flow").explain()
            without = Receipt.objects.filter(correlation_id=None).explain()
        finally:
            if connection.vendor == "postgresql":
                cursor.execute("RESET enable_seqscan")

    assert "inbox_correlation" in plan
    assert "inbox_correlation" not in without
