"""What differs between two texts, line by line, for a person who is to agree to it."""

import json
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from outbox.admin_support.html import Content
from outbox.nouns import grouped

AROUND = 3
"""Lines that did not change, shown before and after those that did."""
COMPARED = 1_000
"""Lines of each text that are compared with each other, between what both begin and end with."""
SHOWN = 400
"""Lines of a difference that a page shows."""
INDENTED = 8 * 1024 * 1024
"""Characters of indented JSON beyond which it is compared as it was written."""
LONG = 2_000
"""Characters of a line that it shows."""


_encoder = json.JSONEncoder(indent=2, ensure_ascii=False)
_TAGS = {"-": "<del>{} {}\n</del>", "+": "<ins>{} {}\n</ins>"}


class Line(NamedTuple):
    """A line of a difference: the same in both texts, only in the old or only in the new one."""

    sign: Literal[" ", "-", "+", "…"]
    text: str


def show_diff(before: str, after: str) -> Content:
    """Return the difference as HTML; JSON is compared as it is when indented."""
    if before == after:
        return _("no change")
    old, new = _indented(before), _indented(after)
    if old is not None and new is not None:
        before, after = old, new
        if before == after:
            return _("no change but in blanks, or in how values are written")
    lines = list(diff(before.splitlines(), after.splitlines()))
    rest = len(lines) - SHOWN
    shown = format_html_join("", "{}", ((_html(line),) for line in lines[:SHOWN]))
    more = _("… and %(count)s lines more") % {"count": grouped(rest)} if rest > 0 else ""
    return format_html('<pre class="outbox-diff">{}</pre>{}', shown, more)


def diff(before: Sequence[str], after: Sequence[str]) -> Iterator[Line]:
    """Yield what differs, with a few lines around it.

    Of long texts that differ in much, all of the old one comes before all of the new one.
    """
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    if start > AROUND:
        yield Line("…", "")
    yield from (Line(" ", each) for each in before[max(0, start - AROUND) : start])
    yield from _middle(old, new)
    yield from (Line(" ", each) for each in before[len(before) - end :][:AROUND])
    if end > AROUND:
        yield Line("…", "")


def _middle(old: Sequence[str], new: Sequence[str]) -> Iterator[Line]:
    if max(len(old), len(new)) > COMPARED:  # the time to compare them grows with the square
        yield from (Line("-", each) for each in old)
        yield from (Line("+", each) for each in new)
        return
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            same = [Line(" ", each) for each in old[a:b]]
            if len(same) > 2 * AROUND:
                same[AROUND:-AROUND] = [Line("…", "")]
            yield from same
            continue
        yield from (Line("-", each) for each in old[a:b])
        yield from (Line("+", each) for each in new[c:d])


def _common(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many lines both begin with."""
    count = 0
    for one, other in zip(before, after, strict=False):
        if one != other:
            break
        count += 1
    return count


def _html(line: Line) -> SafeString:
    text = line.text if len(line.text) <= LONG else f"{line.text[:LONG]}…"
    return format_html(_TAGS.get(line.sign, "<span>{} {}\n</span>"), line.sign, text)


def _indented(text: str) -> str | None:
    try:
        value = json.loads(text)
        pieces, length = [], 0
        # Piece by piece: indentation can make gigabytes out of a deeply nested megabyte.
        for piece in _encoder.iterencode(value):
            pieces.append(piece)
            length += len(piece)
            if length > INDENTED:
                return None
    except (ValueError, RecursionError):
        return None
    found = "".join(pieces)
    # UTF-8 has no lone surrogates; they become again what they are in JSON.
    return found.encode(errors="backslashreplace").decode()
