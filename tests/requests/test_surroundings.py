"""Asking and answering under settings, roles and sessions of every kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import TestCase, override_settings

import outbox
from outbox.models import Request, Scheduled, Settlement
from outbox.testing import drain
from tests.requests.support import Given, Quote, Wire, ask

pytestmark = [pytest.mark.django_db(transaction=True)]
postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'", reason="sessions of a server")


@contextmanager
def session(**settings: str) -> Iterator[None]:
    """Let the session have other settings, as those of a role would be."""
    with connection.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute("SELECT set_config(%s, %s, false)", [name, value])
    try:
        yield
    finally:
        connection.close()


@pytest.mark.sqlite
@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Kiritimati"])
def test_time_zones(wire: Wire, answer: Callable[..., None], use_tz: bool, zone: str) -> None:
    """The deadline is so long ahead, and all times are in UTC."""
    answer(lambda event, message: Given(1))
    connection.close()
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        asked = ask(within=timedelta(minutes=10))
        request, later = Request.objects.get(), Scheduled.objects.get()
        assert request.deadline - request.asked_at == timedelta(minutes=10)
        assert abs(request.asked_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert later.due_at == request.deadline
        wire.run()
        assert asked.result() == Given(1)
        assert abs(Settlement.objects.get().settled_at - datetime.now(UTC)) < timedelta(minutes=1)
    connection.close()


@postgresql
@pytest.mark.parametrize(
    "settings",
    [
        {"timezone": "Asia/Kathmandu"},
        {"default_transaction_isolation": "repeatable read"},
        {"default_transaction_isolation": "serializable"},
        {"idle_in_transaction_session_timeout": "1000"},
        {"standard_conforming_strings": "off", "backslash_quote": "on"},
        {"bytea_output": "escape", "intervalstyle": "sql_standard"},
    ],
    ids=str,
)
def test_settings_of_a_role(
    wire: Wire, answer: Callable[..., None], settings: dict[str, str]
) -> None:
    answer(lambda event, message: Given(1))
    with session(**settings):
        asked = ask(within=timedelta(minutes=10), idempotency_key="k")
        assert ask(within=timedelta(minutes=10), idempotency_key="k") == asked
        request = Request.objects.get()
        assert request.deadline - request.asked_at == timedelta(minutes=10)
        other = ask()
        wire.run()
        assert asked.result() == Given(1)
        assert other.cancel() is False


@postgresql
def test_server_side_binding(wire: Wire, answer: Callable[..., None]) -> None:
    """The option of DATABASES by which values travel apart from the statement."""
    answer(lambda event, message: Given(1))
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = options | {"server_side_binding": True}
    try:
        asked, other = ask(idempotency_key="k"), ask()
        other.cancel()
        wire.run()
        assert asked.result(timeout=5) == Given(1)
        assert other.state() == "cancelled"
    finally:
        connection.settings_dict["OPTIONS"] = options
        connection.close()


class InATestCase(TestCase):
    """Whose transaction is none of the caller's."""

    __test__ = False  # it is run by a test

    def run_it(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            asked = outbox.ask(Quote(7))
        with pytest.raises(outbox.StillPending):
            asked.result(timeout=0.05)
        drain()
        assert asked.result() == Given(1)


@pytest.mark.sqlite
def test_in_a_test_case(wire: Wire, answer: Callable[..., None]) -> None:
    """Nothing commits, nobody is notified, and it is answered all the same."""
    answer(lambda event, message: Given(1))
    case: Any = InATestCase("run_it")
    result = case.run()
    assert result.wasSuccessful(), (result.errors, result.failures)
