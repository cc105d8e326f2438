"""Indented JSON as HTML whose larger parts are folded; works without a script."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from outbox.nouns import grouped

LARGE = 8
"""Lines within an object or array from which on it is folded; the outermost one never is."""


@dataclass(slots=True)
class _Part:
    """An object or array: the line that opens it, and what is in it, parts and lines."""

    opening: str = ""
    inside: list["_Part | str"] = field(default_factory=list)
    entries: int = 0
    size: int = 0
    closing: str = ""


def folded(text: str) -> SafeString:
    """Return JSON that was indented by two blanks; it may be cut off somewhere.

    The text of all of it, put together, is what was given, with a line end behind it.
    """
    outermost = _read(text.split("\n"))
    return format_html_join("", "{}", ((each,) for each in _html(outermost, depth=0)))


def _read(lines: Sequence[str]) -> _Part:
    """Return the parts of indented JSON: strings in it have no line ends of their own."""
    outermost = _Part()
    open_ = [outermost]
    for line in lines:
        part = open_[-1]
        if line.endswith(("{", "[")):
            new = _Part(opening=line)
            part.inside.append(new)
            part.entries += 1
            open_.append(new)
        elif len(open_) > 1 and line.lstrip(" ").startswith(("}", "]")):
            part.closing = line
            open_.pop()
            open_[-1].size += part.size + 2
        else:
            part.inside.append(line)
            part.entries += 1
            part.size += 1
    while len(open_) > 1:  # cut off
        part = open_.pop()
        open_[-1].size += part.size + 1
    return outermost


def _html(part: _Part, depth: int) -> Iterator[SafeString]:
    fold = depth > 1 and part.size >= LARGE
    if fold:
        count = ngettext("%(count)s entry", "%(count)s entries", part.entries)
        about = count % {"count": grouped(part.entries)}
        summary = '<details><summary>{} <small class="outbox-quiet">{}</small></summary>'
        yield format_html(summary, part.opening, about)
    elif part.opening:
        yield format_html("{}\n", part.opening)
    for each in part.inside:
        if isinstance(each, _Part):
            yield from _html(each, depth + 1)
        else:
            yield format_html("{}\n", each)
    if part.closing:
        yield format_html("{}\n", part.closing)
    if fold:
        yield SafeString("</details>")
