"""What errors say without what differs from one to the next."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.failures.texts import LEFT_OUT, SHOWN, normalised, parted


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no price for order 12", "no price for order 3456"),
        ("order 12.50 EUR is too much", "order 1,250.75 EUR is too much"),
        (
            "no 686fc3f5-037d-40ad-9282-dce8e8487c02 here",
            "no e6f79381-e0a3-41c9-af7c-8ced39083e29 here",
        ),
        ("<Order object at 0x7f12ab>", "<Order object at 0x7f99ff00>"),
        ("no field 'price'", "no field 'total (net)'"),
        ('key "a" missing', 'key "b c" missing'),
        ("no /srv/app/1/a.txt", "no /var/lib/b/c.txt"),
        ("at 2026-11-30 12:04:05.123 late", "at 2026-12-01T07:00:00 late"),
        ("GET https://a.example/x?y=1 failed", "GET http://b.example/ failed"),
        ("no account for ann@a.example", "no account for bob.b@c.example"),
        ("no\n  price for A1B2", "no price\tfor C3D4"),
    ],
)
def test_values_make_no_difference(one: str, other: str) -> None:
    """Numbers, ids, quoted text, paths, addresses and times."""
    assert normalised(one) == normalised(other)
    assert LEFT_OUT in normalised(one)


@pytest.mark.parametrize(
    "text",
    [
        "no luck",
        "can't find Bob's order",
        "utf8 is not supported",
        "either/or and his/hers",
        "Ein Fehler: größer als erlaubt",
    ],
)
def test_words_stay(text: str) -> None:
    """An apostrophe is no quote, and a digit in a name no id."""
    assert normalised(text) == text


def test_a_long_text_is_cut() -> None:
    """And takes no more time than its first part."""
    assert len(normalised("a word " * 10_000_000)) == SHOWN


@pytest.mark.parametrize(
    "part", ["a-", "a.", "1-", "a1", "'a", "\u201c", "/a", "a@", "://", "…", " 1"]
)
def test_hostile_text_takes_no_long(part: str) -> None:
    """Whatever is repeated in it: the time is about proportional to the length."""
    start = time.process_time()
    for _ in range(20):
        normalised(part * 2_000)

    assert time.process_time() - start < 1


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    """In one line, and not longer than is shown."""
    found = normalised(text)

    assert normalised(found) == found
    assert len(found) <= SHOWN
    assert len(found.splitlines()) <= 1


@given(st.integers(), st.integers(), st.uuids(), st.uuids())
def test_any_number_and_id_is_left_out(one: int, other: int, first: object, second: object) -> None:
    """Whatever its length and its sign."""
    assert normalised(f"row {one} of {first}!") == normalised(f"row {other} of {second}!")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("ValueError: no luck", ("ValueError", "no luck")),
        ("ValueError: ", ("ValueError", "")),
        ("KeyError", ("KeyError", "")),
        ("psycopg.errors.UniqueViolation: dup", ("psycopg.errors.UniqueViolation", "dup")),
        ("make.<locals>.Odd: text", ("make.<locals>.Odd", "text")),
        ("ValueError: a: b", ("ValueError", "a: b")),
        ("3 processes ended, or lost", ("", "3 processes ended, or lost")),
        ("a sentence: and more", ("", "a sentence: and more")),
        ("", ("", "")),
    ],
)
def test_an_error_begins_with_its_class(error: str, found: tuple[str, str]) -> None:
    """As outbox.error_text.describe() writes it."""
    assert parted(error) == found
