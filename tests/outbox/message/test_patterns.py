"""Patterns select event types as the topic bindings of AMQP do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.message.patterns import as_regex, is_pattern, matches

pytestmark = pytest.mark.sqlite


@pytest.mark.parametrize(
    ("pattern", "event_type", "selected"),
    [
        ("shop.order.placed", "shop.order.placed", True),
        ("shop.order.placed", "shop.order", False),
        ("shop.order", "shop.order.placed", False),
        ("shop.*.placed", "shop.order.placed", True),
        ("shop.*.placed", "shop.placed", False),
        ("shop.*", "shop.order.placed", False),
        ("*", "shop", True),
        ("*", "shop.order", False),
        ("#", "shop.order.placed", True),
        ("shop.#", "shop", True),
        ("shop.#", "shop.order.placed", True),
        ("shop.#", "shopping.order", False),
        ("#.placed", "placed", True),
        ("#.placed", "shop.order.placed", True),
        ("shop.#.placed", "shop.placed", True),
        ("shop.#.placed", "shop.a.b.placed", True),
        ("shop.#.placed", "shop.a.b.placed.not", False),
        ("#.a.#", "b.a.c", True),
        ("#.#", "a", True),
        ("*.#.*", "a", False),
        ("*.#.*", "a.b", True),
    ],
)
def test_a_pattern_selects_types(pattern: str, event_type: str, selected: bool) -> None:
    """`*` is one word, `#` any number of words."""
    assert matches(pattern, event_type) is selected


@pytest.mark.parametrize("text", ["a", "a.b-c.D_1", "*", "#", "a.*.#", "x" * 255])
def test_words_and_wildcards_are_patterns(text: str) -> None:
    """Words joined by dots, `*` and `#` in the place of a word."""
    assert is_pattern(text)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a b", "a*", "**", "ä", "x" * 256])
def test_anything_else_is_no_pattern(text: str) -> None:
    """What the broker or an event type would not have is refused."""
    assert not is_pattern(text)


words = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=6)


@given(words, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6))
def test_matching_agrees_with_the_definition(pattern: list[str], event_type: list[str]) -> None:
    """The same as matching word by word, with every way to spend a `#`."""

    def defined(pattern: list[str], words: list[str]) -> bool:
        if not pattern:
            return not words
        if pattern[0] == "#":
            return any(defined(pattern[1:], words[n:]) for n in range(len(words) + 1))
        return bool(words) and pattern[0] in ("*", words[0]) and defined(pattern[1:], words[1:])

    assert matches(".".join(pattern), ".".join(event_type)) is defined(pattern, event_type)


@given(words, st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=6))
def test_the_regular_expression_matches_the_same(pattern: list[str], event_type: list[str]) -> None:
    """What a database selects with it is what matches() selects."""
    text, name = ".".join(pattern), ".".join(event_type)
    assert bool(re.search(as_regex(text), name)) is matches(text, name)


def test_matching_is_quick_for_a_hostile_pattern() -> None:
    """No pattern makes matching take exponential time."""
    assert not matches(".".join(["#", "a"] * 60), ".".join(["a"] * 59 + ["b"]))
