"""When to ask again: others of the type tell, in a bounded number of rows."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from outbox.models import Request, Settlement
from outbox.replies import patience
from outbox.replies.patience import answer_times, pause

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("times", "waited", "left", "seconds"),
    [
        ([], 0, 60, 1),  # nobody knows
        ([], 20, 60, 10),
        ([], 20, 4.2, 5),
        ([], 20, -3, 1),  # nobody has said yet that it is over
        ([2, 4, 90], 0, 60, 4),
        ([2, 4, 90], 3, 600, 1),
        ([2, 4, 90], 10, 600, 80),
        ([2, 4, 90], 100, 600, 50),
        ([5_000], 0, 90_000, 300),
        ([0.01], 0, 60, 1),
    ],
)
def test_a_pause(times: list[float], waited: float, left: float, seconds: int) -> None:
    """Half of those that took longer than this one are answered by then."""
    assert pause(times, waited, left) == seconds


def asked(name: str, *, took: float | None, outcome: str = "answered") -> None:
    request = Request.objects.create(
        message_id=uuid4(),
        type=name,
        version=1,
        wanted=1,
        asked_at=NOW,
        deadline=NOW,
        expiry_id=uuid4(),
    )
    if took is not None:
        settled_at = NOW + timedelta(seconds=took)
        Settlement.objects.create(request=request, outcome=outcome, settled_at=settled_at)


@pytest.mark.sqlite
@pytest.mark.django_db
def test_what_others_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this type, answered, and among the latest; in one statement."""
    asked("a.b", took=99)
    monkeypatch.setattr(patience, "LOOKED_AT", 5)
    asked("a.b", took=2)
    asked("a.c", took=3)
    asked("a.b", took=None)
    asked("a.b", took=4, outcome="expired")
    asked("a.b", took=0.5)
    with CaptureQueriesContext(connection) as captured:
        assert answer_times("a.b", "default") == [0.5, 2]
    assert len(captured) == 1
    monkeypatch.setattr(patience, "USED", 1)
    assert answer_times("a.b", "default") == [0.5]
