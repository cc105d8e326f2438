"""Which event types a pattern selects: the syntax of AMQP topic bindings, pure policy.

`*` stands for one word, `#` for any number of words, also none.
"""

import re
from functools import lru_cache

_WORD = re.compile(r"[A-Za-z0-9_-]+|\*|#")


def is_pattern(text: str) -> bool:
    """Tell whether `text` is a pattern or an event type: words, `*` and `#` joined by dots."""
    return len(text) <= 255 and all(_WORD.fullmatch(word) for word in text.split("."))


MAX_CACHED = 255
"""Characters of a text up to which what was made of it is kept in a cache."""


def selects_many(pattern: str) -> bool:
    """Tell whether a pattern has a wildcard, and so may select several event types."""
    return "*" in pattern or "#" in pattern


def matches(pattern: str, event_type: str) -> bool:
    """Tell whether an event type is selected by a pattern."""
    # What anybody sends must not fill the memory.
    tell = _cached if len(event_type) <= MAX_CACHED else _cached.__wrapped__
    return tell(pattern, event_type)


@lru_cache(maxsize=4096)
def _cached(pattern: str, event_type: str) -> bool:
    return _matches(pattern.split("."), event_type.split("."))


def as_regex(pattern: str) -> str:
    """Return the regular expression for the same event types, for any dialect that has `(?:…)`."""
    parts = pattern.split(".")
    if all(part == "#" for part in parts):
        return "^.*$"
    found, dot = "", ""
    for part in parts:
        if part == "#":
            # In front of the first word the dots come after the words, elsewhere before.
            found += r"(?:\.[^.]+)*" if dot else r"(?:[^.]+\.)*"
        else:
            found += dot + ("[^.]+" if part == "*" else part)
            dot = r"\."
    return f"^{found}$"


def _matches(pattern: list[str], words: list[str]) -> bool:
    """Match word by word; `reached` holds how much of the pattern may be used up so far."""
    reached = _skip_hashes(pattern, {0})
    for word in words:
        step: set[int] = set()
        for at in reached:
            if at == len(pattern):
                continue
            if pattern[at] == "#":
                step.add(at)
            elif pattern[at] in ("*", word):
                step.add(at + 1)
        reached = _skip_hashes(pattern, step)
    return len(pattern) in reached


def _skip_hashes(pattern: list[str], reached: set[int]) -> set[int]:
    for at in sorted(reached):
        while at < len(pattern) and pattern[at] == "#":
            at += 1
            reached.add(at)
    return reached
