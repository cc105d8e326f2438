"""What of an answer is taken: what is about what was asked, whoever has sent it."""

from typing import Any

import pytest

from outbox.statements.buckets import HOUR, MAX_TIME, MINUTE
from outbox.statements.fitting import fitting
from outbox.statements.wire import Answer, Listing

pytestmark = pytest.mark.sqlite

START = 3 * HOUR
ID = "00000000-0000-7000-8000-000000000000"


def id_at(time: int) -> str:
    text = f"{time:012x}"
    return f"{text[:8]}-{text[8:]}{ID[13:]}"


def said(type_: str = "", **about: Any) -> Answer:
    """What is left of an answer about an hour of minutes."""
    told: dict[str, Any] = {
        "differing": [(START, "shop.sold")],
        "listings": [],
        "twice": {},
        "topics": [],
        "handles": [],
    }
    answer = Answer(group="g", to="x", until=START + HOUR, **(told | about))
    return fitting(answer, START, START + HOUR, MINUTE, type_)


def listing(**about: Any) -> Listing:
    told = {"type": "shop.sold", "since": START, "until": START + MINUTE, "ids": {}}
    return Listing(**(told | about))


def test_what_fits_is_left_as_it_is() -> None:
    ids = {id_at(START): "settled", id_at(START + MINUTE - 1): "retrying"}
    listings, twice = [listing(ids=ids)], {id_at(START + HOUR - 1): "shop.sold"}
    found = said(listings=listings, twice=twice, forgotten=7)

    assert (found.differing, found.listings) == ([(START, "shop.sold")], listings)
    assert (found.twice, found.forgotten) == (twice, 7)


@pytest.mark.parametrize(
    "start", [-MINUTE, START - MINUTE, START + 1, START + HOUR, MAX_TIME, 1 << 70]
)
def test_a_time_that_was_not_asked_says_nothing(start: int) -> None:
    """It would be stated: a bucket that no other side takes, or that no id can be of."""
    each = (start, "shop.sold")
    assert said(differing=[each], listings=[listing(since=start)]).differing == []


@pytest.mark.parametrize("kind", ["", "a b", "a\x00", "a(b", "shop.*", "#", "x" * 256])
def test_what_is_no_type_says_nothing(kind: str) -> None:
    found = said(differing=[(START, kind)], twice={id_at(START): kind})
    assert (found.differing, found.twice) == ([], {})


def test_another_type_than_was_asked_says_nothing() -> None:
    found = said("shop.bought", twice={id_at(START): "shop.sold"})
    assert (found.differing, found.twice) == ([], {})


@pytest.mark.parametrize(
    "about",
    [
        {"since": START + MINUTE},  # which does not differ
        {"until": START + HOUR},
        {"until": 1 << 60},
        {"type": "shop.bought"},
    ],
)
def test_a_listing_of_what_does_not_differ_says_nothing(about: dict[str, Any]) -> None:
    assert said(listings=[listing(**about)]).listings == []


@pytest.mark.parametrize(
    ("message_id", "state"),
    [
        ("nonsense", "settled"),
        (id_at(START).upper() + "x", "settled"),
        (id_at(START).replace("-7", "-4"), "settled"),
        (id_at(START - 1), "settled"),
        (id_at(START + MINUTE), "settled"),
        (id_at(START), "a" * 21),
        (id_at(START), "a\x00"),
    ],
)
def test_what_is_no_id_of_the_bucket_or_no_state_says_nothing(message_id: str, state: str) -> None:
    """Nor does it keep the others from being told."""
    ids = {id_at(START + 1): "settled"}
    [found] = said(listings=[listing(ids={**ids, message_id: state})]).listings
    assert found.ids == ids


@pytest.mark.parametrize(
    "message_id", ["nonsense", "x" * 300, id_at(START - 1), id_at(START + HOUR)]
)
def test_what_is_no_id_of_the_range_is_not_counted_twice(message_id: str) -> None:
    assert said(twice={message_id: "shop.sold"}).twice == {}
