"""The migrations of the producer."""

import pytest
from django.core.management import call_command
from django.db import connection, transaction

import outbox
from outbox.producer import sql
from tests.outbox.helpers import logged
from tests.outbox.placed import Placed

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db(transaction=True)]


def test_back_and_forth():
    """They can be undone and done again, and the outbox works afterwards."""
    call_command("migrate", "django_outbox", "zero", verbosity=0)
    try:
        assert sql.TABLE not in connection.introspection.table_names()
    finally:
        call_command("migrate", "django_outbox", verbosity=0)
    with transaction.atomic():
        envelope = outbox.emit(Placed(1))

    assert logged() == [envelope]
