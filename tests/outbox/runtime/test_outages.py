"""Outages of a process: told once, backed off, told when they are over."""

import logging

import pytest

from outbox.database.failures import AWAY, DENIED
from outbox.runtime.backoff import Backoff
from outbox.runtime.outages import BROKER, DATABASE, Outages
from tests.kit.metrics import recording

logger = logging.getLogger("tests.outages")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outages(clock: Clock, caplog: pytest.LogCaptureFixture) -> Outages:
    caplog.set_level(logging.INFO, logger.name)
    return Outages(Backoff(base=1.0, cap=8.0), logger, clock=clock)


def test_an_outage_is_told_once_and_its_end(
    outages: Outages, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """However many attempts it takes; another outage is told anew."""
    for _ in range(3):
        outages.failed(BROKER, "no route", "amqp://here")
        clock.now += 1.0
    outages.passed(BROKER)
    outages.passed(BROKER)
    outages.failed(BROKER, "no route", "amqp://here")

    said = [record.getMessage() for record in caplog.records]
    assert said[0] == (
        "The broker is away (amqp://here): no route. Nothing is lost; trying again until it is "
        "back."
    )
    assert said[1] == "The broker is back after 3 attempts in 3.0 s."
    assert said[2:] == said[:1]


def test_what_does_not_let_us_in_is_told_apart(
    outages: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    """It was away, and now wants a person: each of the two sentences once."""
    for sentence in (AWAY, AWAY, DENIED, DENIED):
        outages.failed(BROKER, "reason", "amqp://here", sentence)

    assert [record.msg for record in caplog.records] == ["".join(AWAY), "".join(DENIED)]


def test_an_outage_of_one_does_not_hide_that_of_the_other(
    outages: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    """Broker and database are told apart, and each is told when it is back."""
    assert outages.away == ""
    for what in (BROKER, BROKER, DATABASE, DATABASE, BROKER):
        outages.failed(what, "gone", "there")
    assert outages.away == "broker, database"
    outages.passed(BROKER)
    assert outages.away == "database"
    outages.passed(DATABASE)
    assert outages.away == ""

    said = [record.getMessage().partition(" (")[0] for record in caplog.records]
    assert said[:2] == ["The broker is away", "The database is away"]
    assert said[2].startswith("The broker is back after 3 attempts")
    assert said[3].startswith("The database is back after 2 attempts")


def test_pauses_are_those_of_the_backoff(outages: Outages, clock: Clock) -> None:
    """The longest that is left is waited for; without progress they grow up to the cap."""
    assert outages.remaining <= 0
    for number in range(10):
        pause = outages.failed(DATABASE, "gone", "there")
        assert 0 <= pause <= min(8.0, 2.0**number)
        assert outages.remaining == pause
        assert outages.failed(BROKER, "gone", "there", progress=True) <= 1.0
        clock.now += 8.0
        assert outages.remaining <= 0


def test_what_cannot_be_used_is_told_once_for_each_reason(
    outages: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    """And does not hide an outage that comes after it."""
    for text in ("The log is loading.", "The log is loading.", "The log lacks a key."):
        outages.unusable(DATABASE, text)
    outages.failed(DATABASE, "no route", "here")

    assert outages.away == DATABASE
    assert [record.getMessage() for record in caplog.records] == [
        "The log is loading.",
        "The log lacks a key.",
        "".join(AWAY) % (DATABASE, "here", "no route."),
    ]


def test_a_process_that_ends_promises_nothing(
    outages: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not try again until something is back; that nothing is lost holds all the same."""
    outages.persistent = False
    outages.failed(BROKER, "no route", "amqp://here")

    [record] = caplog.records
    assert record.getMessage() == ("The broker is away (amqp://here): no route. Nothing is lost.")


@pytest.mark.parametrize(
    "reason", ["Is the server running?", "Connection refused.", "Connection refused.\n"]
)
def test_a_reason_that_is_a_sentence_gets_no_second_end(
    outages: Outages, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    """As libpq asks whether the server is running."""
    outages.failed(DATABASE, reason, "here")

    [record] = caplog.records
    assert f"(here): {reason.rstrip()} Nothing is lost" in record.getMessage()


def test_how_long_it_lasts_is_counted_while_it_does(clock: Clock) -> None:
    """By attempts, and in the end each second once; another one counts from its own beginning."""
    with recording() as recorder:
        outages = Outages(Backoff(base=1.0, cap=8.0), logger, clock=clock, of=("relay", "mine"))
        key = ("outbox_outage_seconds_total", "relay", "mine", BROKER)
        outages.failed(BROKER, "gone", "there")
        for attempt in (1, 2, 3):
            clock.now += 2.0
            outages.failed(BROKER, "gone", "there", progress=attempt == 2)
            assert recorder.sums[key] == 2.0 * attempt
        clock.now += 0.5
        outages.unusable(BROKER, "is not what it should be")
        clock.now += 0.5
        outages.passed(BROKER)
        outages.passed(BROKER)
        assert recorder.sums[key] == 7.0

        clock.now += 100.0
        outages.failed(BROKER, "gone", "there")
        clock.now += 1.0
        outages.passed(BROKER)
        assert recorder.sums[key] == 8.0
        assert {found[-1] for found in recorder.sums} == {BROKER}
