"""The text of a filter: terms, quotes, and where a mistake is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.exceptions import UnusableFilter
from outbox.filtering.grammar import MAX_LENGTH, MAX_TERMS, parse, quoted, term

pytestmark = pytest.mark.sqlite

names = st.from_regex(r"[a-z][a-z_-]{0,9}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def read(text: str) -> list[tuple[str, str]]:
    return [("-" * each.negated + each.name, each.value) for each in parse(text)]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        ("  ", []),
        ("42", [("", "42")]),
        ("type:shop.order.* state:dead", [("type", "shop.order.*"), ("state", "dead")]),
        ("-state:dead", [("-state", "dead")]),
        ("Type:A", [("type", "A")]),
        ('error:"timed out: \\"x\\" \\\\"', [("error", 'timed out: "x" \\')]),
        ('error:it"s', [("error", 'it"s')]),
        ("age:>1h", [("age", ">1h")]),
        ("a:b:c", [("a", "b:c")]),
        ('"state:dead"', [("", "state:dead")]),
        ("-12", [("", "-12")]),
        ("12:30", [("", "12:30")]),
        ("key:", [("key", "")]),
        ("two  words", [("", "two  words")]),
        ("two words key:1 more", [("", "two words"), ("key", "1"), ("", "more")]),
        ('one "and two"', [("", "one"), ("", "and two")]),
    ],
)
def test_a_filter_is_read(text: str, terms: list[tuple[str, str]]) -> None:
    """Names with values, and texts by themselves."""
    assert read(text) == terms


@pytest.mark.parametrize(
    ("text", "start", "end", "said"),
    [
        ('key:1 error:"open', 12, 17, "quotation mark is missing"),
        ('"a"b', 3, 4, "follows a quotation mark"),
        ("key:\0", 4, 5, "has this character"),
        ("\ud800", 0, 1, "has this character"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH, MAX_LENGTH + 1, "2,000 characters at most"),
        ("a:b " * (MAX_TERMS + 1), 80, 83, "20 terms at most"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, start: int, end: int, said: str) -> None:
    """What is wrong, and from where to where."""
    with pytest.raises(UnusableFilter, match=said) as caught:
        parse(text)

    assert (caught.value.start, caught.value.end) == (start, end)
    assert str(caught.value).endswith(f"(at character {start + 1})")


@given(texts)
def test_any_text_is_read_or_refused(text: str) -> None:
    """And nothing else is ever raised; terms stand where they say."""
    try:
        places = [(each.start, each.end) for each in parse(text)]
    except UnusableFilter as exc:
        places = [(exc.start, exc.end)]

    assert all(0 <= start < end <= len(text) for start, end in places)


@given(names, texts, texts)
def test_any_value_can_be_written(name: str, value: str, other: str) -> None:
    """In quotes where it needs them; it comes back as it was."""
    assert read(term(name, value)) == [(name, value)]
    if value:
        assert read(f"{quoted(value)} {term(name, other)}") == [("", value), (name, other)]
