"""Which event type a handler meant whose pattern selects none by one slip of the pen: pure policy.

Events of other services need not be registered here, so a pattern that selects nothing is no
mistake by itself; one that is a letter away from an event type that is registered nearly always is.
"""

import re
from collections.abc import Iterable, Iterator

from outbox.message.patterns import matches

SHORTEST = 4
"""Letters that a word has at least of which another letter can be a slip: "sold" for "told"."""

_SEPARATORS = re.compile(r"[-_.]")


def meant(pattern: str, known: Iterable[str]) -> str | None:
    """Return the known event type that a pattern misses by one slip, or None."""
    known = sorted(known)
    if any(matches(pattern, event_type) for event_type in known):
        return None
    for event_type in known:
        if _squeezed(event_type) == _squeezed(pattern):
            return event_type
        if any(matches(corrected, event_type) for corrected in _corrections(pattern, event_type)):
            return event_type
    return None


def _corrections(pattern: str, event_type: str) -> Iterator[str]:
    """Yield the pattern with one of its words replaced by a word that is like it."""
    words = pattern.split(".")
    for place, word in enumerate(words):
        for other in event_type.split("."):
            if _is_slip(word, other):
                yield ".".join([*words[:place], other, *words[place + 1 :]])


def _is_slip(word: str, other: str) -> bool:
    """Tell whether two words differ by one letter, two that changed places, or their case."""
    if word.casefold() == other.casefold():
        return word != other
    short, long = sorted((word, other), key=len)
    if len(short) < SHORTEST or len(long) - len(short) > 1:
        return False
    if long.casefold() == f"{short.casefold()}s":
        return False  # of one thing and of many, in the manner of another service
    start = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), None)
    start = len(short) if start is None else start
    if any(letter.isdigit() for letter in (short[start : start + 1], long[start])):
        return False  # v1 and v2 are two things
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = long[start + 1 : start + 2] + long[start] == short[start : start + 2]
    return short[start + 1 :] == long[start + 1 :] or (
        swapped and short[start + 2 :] == long[start + 2 :]
    )


def _squeezed(text: str) -> str:
    return _SEPARATORS.sub("", text).casefold()
