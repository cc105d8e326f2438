"""Headers are read as their documents say, and whatever else is sent does no harm."""

import pytest
from rest_framework.exceptions import ValidationError

from outbox.api.headers import LONGEST_KEY, has_seen, idempotency_key, preferences, seconds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("wait=5", {"wait": "5"}),
        ("respond-async, wait=10", {"respond-async": "", "wait": "10"}),
        ('Wait = "5"; sure=yes , foo', {"wait": "5", "foo": ""}),
        ("wait=3, wait=9", {"wait": "3"}),
        ('foo="a, wait=2\\"", wait=4', {"foo": 'a, wait=2"', "wait": "4"}),
        (",, wait=1", {"wait": "1"}),
        ("@ wait=1, b", {"b": ""}),
        ('"', {}),
        ("", {}),
        ("=" * 100_000, {}),
    ],
)
def test_preferences(text: str, found: dict[str, str]) -> None:
    """RFC 7240: the first of a name counts, names are in any letters, what is odd is left out."""
    assert preferences({"Prefer": text}) == found


@pytest.mark.parametrize(
    ("value", "found"), [("5", 5), ("21", 20), ("9" * 99, 20), ("-1", 0), ("x", 0), ("٣", 0)]
)
def test_seconds(value: str, found: int) -> None:
    assert seconds(value, 20) == found


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('"8e03978e"', "8e03978e"),
        ("8e03978e", "8e03978e"),
        ("ticket 78", "ticket 78"),
        (r'"a\"b\\"', 'a"b\\'),
        ("a" * LONGEST_KEY, "a" * LONGEST_KEY),
    ],
)
def test_a_key(text: str, key: str) -> None:
    """The draft's string; without quotation marks it is the same."""
    assert idempotency_key({"Idempotency-Key": text}) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        '""',
        '" "',
        '"a","b"',
        "a, b",
        '"a',
        'a"b',
        "é",
        "a\x00",
        "a\tb",
        "a" * (LONGEST_KEY + 1),
        "\\" * 100_000,
        " a" * 100_000,
    ],
)
def test_what_is_no_key(text: str) -> None:
    """Two in one header, nothing in it, what is no ASCII, and what is too long."""
    with pytest.raises(ValidationError, match="1 to 200 characters"):
        idempotency_key({"Idempotency-Key": text})


def test_without_a_key() -> None:
    assert idempotency_key({}) == ""


@pytest.mark.parametrize(
    ("text", "seen"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_if_none_match(text: str, seen: bool) -> None:
    """Compared as RFC 9110 has it for what only reads."""
    assert has_seen({"If-None-Match": text}, '"a"') is seen
