"""A page of many rows takes as many statements as one of a few."""

from collections.abc import Callable

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import outbox
from outbox.operations import write_down
from tests.inbox.api.test_many import receipts
from tests.kit.api import VIEW, Caller
from tests.kit.support import Registered
from tests.relay.api.test_parked import park

pytestmark = [pytest.mark.sqlite, pytest.mark.django_db]
MOST = 18
"""Statements, those for session, user, permissions and the time limit among them."""


def counted(caller: Caller, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        caller.get(path)
    assert not any("COUNT(" in each["sql"] for each in captured.captured_queries)
    return len(captured)


@pytest.mark.parametrize("path", ["messages", "receipts", "parked", "doings", "stream"])
def test_statements_do_not_grow_with_rows(path: str, registered: Registered) -> None:
    """Nothing is counted, and nothing read row by row."""
    registered("api.told")
    caller = Caller("caller", *VIEW)

    def emit(count: int) -> None:
        with transaction.atomic():
            for _ in range(count):
                outbox.emit("api.told", {})

    def do(count: int) -> None:
        row = park(LogEntry.objects.count() + 1000)
        for _ in range(count):
            write_down([row], "Done.", user=caller.user)

    numbers = iter(range(1, 1000))
    make: dict[str, Callable[[int], object]] = {
        "messages": emit,
        "stream": emit,
        "receipts": lambda count: receipts(count, handler=f"h{count}"),
        "parked": lambda count: [
            park(next(numbers), key="k", state="waiting") for _ in range(count)
        ],
        "doings": do,
    }
    make[path](2)
    counted(caller, path)  # what is read once and kept
    few = counted(caller, path)
    make[path](30)

    assert counted(caller, path) <= few <= MOST
