"""What an answer means: a table."""

from datetime import UTC, datetime

import pytest

from relay.brokers.base import CONFIRMED, Outcome, Status
from relay.brokers.webhook.answers import LONGEST, answered, failed, seconds

pytestmark = pytest.mark.sqlite

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
STATUSES = [
    # status, its receiver is away, it is given up, Retry-After counts
    (400, False, False, False),
    (401, False, False, False),
    (404, False, False, False),
    (408, True, False, False),
    (410, False, True, False),
    (413, False, False, False),
    (429, True, False, True),
    (500, True, False, False),
    (503, True, False, True),
    (599, True, False, False),
    (302, False, False, False),
    (999, True, False, False),
]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_success(status: int) -> None:
    answer = answered(status, "60", NOW)

    assert answer.outcome is CONFIRMED
    assert not answer.away


@pytest.mark.parametrize(("status", "away", "final", "waits"), STATUSES)
def test_all_else_is_a_refusal(status: int, away: bool, final: bool, waits: bool) -> None:
    outcome, is_away = answered(status, "60", NOW)

    assert outcome.status is Status.REFUSED
    assert f"answered {status}" in outcome.reason
    assert (is_away, outcome.final, outcome.after) == (away, final, 60.0 if waits else 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("٣", 0.0),
        ("9" * 5000, LONGEST),
        ("Mon, 30 Nov 2026 12:01:30 GMT", 90.0),
        ("Mon, 30 Nov 2026 11:00:00 GMT", 0.0),
        ("Mon, 30 Nov 2099 12:00:00 GMT", LONGEST),
        ("tomorrow", 0.0),
        ("Mon, 99 Nov 2026 12:01:30 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_time(text: str, expected: float) -> None:
    """What is neither asks for nothing; nobody can have us wait for more than a day."""
    assert seconds(text, NOW) == expected


def test_an_error_says_nothing_of_the_url() -> None:
    """Libraries quote it, with its query."""
    text = failed(ValueError("Max retries exceeded with url: /?token=secret"), 5).outcome.reason

    assert text == "the receiver cannot be reached: ValueError"
    assert failed(TimeoutError(), 5).outcome == Outcome(
        Status.REFUSED, "the receiver cannot be reached: no answer within 5 s"
    )
