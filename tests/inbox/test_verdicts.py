"""What a failure means: pure policy."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inbox.verdicts import Reject, Retry, RetryPolicy, judge
from outbox.exceptions import ConfigurationError

pytestmark = pytest.mark.sqlite


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.01, 100), st.floats(1, 1000))
def test_an_error_is_retried_within_the_bounds_of_the_policy(
    attempt: int, attempts: int, base: float, factor: float
) -> None:
    """Up to base * 2**n and the cap, and not after the last attempt."""
    policy = RetryPolicy(attempts=attempts, base=base, cap=base * factor)

    verdict = judge(ValueError(), policy, attempt)

    if attempt >= attempts:
        assert verdict.delay is None
    else:
        assert verdict.delay is not None
        assert 0 <= verdict.delay <= min(base * 2 ** (attempt - 1), base * factor)
    assert verdict.reason == "failed"


@pytest.mark.parametrize(
    ("exc", "attempt", "delay", "reason"),
    [
        (Retry(after=30), 1, 30.0, "retry"),
        (Retry(after=timedelta(minutes=2)), 1, 120.0, "retry"),
        (Retry(after=0), 1, 0.0, "retry"),
        (Retry(after=30), 3, None, "retry"),
        (Reject("no"), 1, None, "rejected"),
    ],
)
def test_a_handler_has_its_say(
    exc: Exception, attempt: int, delay: float | None, reason: str
) -> None:
    """When to try again, or never; but not how often."""
    verdict = judge(exc, RetryPolicy(attempts=3), attempt)

    assert (verdict.delay, verdict.reason) == (delay, reason)


def test_a_retry_without_a_time_leaves_it_to_the_policy() -> None:
    """As an error would, with its reason."""
    verdict = judge(Retry(reason="later"), RetryPolicy(base=5, cap=5), 1)

    assert verdict.delay is not None
    assert 0 <= verdict.delay <= 5
    assert verdict.reason == "retry"


@pytest.mark.parametrize("after", [-1, timedelta(seconds=-1), timedelta(days=1000)])
def test_a_time_that_cannot_be_meant_is_refused(after: Any) -> None:
    """Where it is written, not where it would be used."""
    with pytest.raises(ValueError, match="after"):
        Retry(after=after)


@pytest.mark.parametrize(
    "values",
    [{"attempts": 0}, {"attempts": True}, {"base": 0}, {"base": 2, "cap": 1}, {"cap": 10**12}],
)
def test_a_policy_that_cannot_work_is_refused(values: dict[str, Any]) -> None:
    """When the handler is registered, or the settings are read."""
    with pytest.raises(ConfigurationError, match="retry policy"):
        RetryPolicy(**values)


def test_verdicts_have_a_text() -> None:
    """Also without a reason, since it is what the receipt tells."""
    assert str(Retry()) == "its handler asked for another attempt"
    assert str(Reject()) == "its handler rejected it"
