"""The text of a filter, and what it is made of: pure, knows no qualifier.

type:shop.order.* state:dead age:>1h -reason:retry error:"timed out" 42

filter   = { blank | term }
term     = [ "-" ] name ":" value | value
value    = '"' { any | '\\"' | '\\\\' } '"' | any but blanks
"""

import re
from dataclasses import dataclass

from django.utils.translation import gettext as _

from outbox.exceptions import UnusableFilter
from outbox.nouns import grouped

MAX_LENGTH = 2_000
"""Characters of a filter."""
MAX_TERMS = 20
"""Terms of a filter."""

_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"(-?)([A-Za-z][A-Za-z_-]*):")
_WORD = re.compile(r"\S*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A part of a filter: a qualifier's name with a value; without a name a text by itself.

    `start` and `end` say where it stands.
    """

    value: str
    start: int
    end: int
    name: str = ""
    negated: bool = False
    quoted: bool = False


def parse(text: str) -> list[Term]:
    """Return the terms of a filter; raise UnusableFilter if it is none.

    Words by themselves that stand beside each other are one text, as it was written.
    """
    if len(text) > MAX_LENGTH:
        raise UnusableFilter(
            _("A filter has %(most)s characters at most.") % {"most": grouped(MAX_LENGTH)},
            start=MAX_LENGTH,
            end=len(text),
        )
    _check_characters(text)
    found: list[Term] = []
    at = _skip_blanks(text, 0)
    while at < len(text):
        term = _term(text, at)
        if found and not (term.name or term.quoted or found[-1].name or found[-1].quoted):
            start = found.pop().start
            term = Term(value=text[start : term.end], start=start, end=term.end)
        found.append(term)
        at = _skip_blanks(text, term.end)
    if len(found) > MAX_TERMS:
        raise UnusableFilter(
            _("A filter has %(most)s terms at most.") % {"most": MAX_TERMS},
            start=found[MAX_TERMS].start,
            end=found[-1].end,
        )
    return found


def quoted(text: str) -> str:
    """Return a text by itself as it stands in a filter, in quotes only if it needs them."""
    try:
        plain = [each.value for each in parse(text) if not each.name] == [text]
    except UnusableFilter:
        plain = False
    return text if plain else _in_quotes(text)


def term(name: str, value: str) -> str:
    """Return a qualifier with a value as it stands in a filter."""
    return f"{name}:{written(value)}"


def written(value: str) -> str:
    """Return a value as it stands behind the name of a qualifier, in quotes if it needs them."""
    plain = value and _WORD.fullmatch(value) and not value.startswith('"')
    return value if plain else _in_quotes(value)


def _in_quotes(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _skip_blanks(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    assert blank is not None  # it may be empty
    return blank.end()


def _term(text: str, start: int) -> Term:
    name = _NAME.match(text, start)
    at = name.end() if name else start
    if text.startswith('"', at):
        value, end = _quoted_value(text, at)
    else:
        word = _WORD.match(text, at)
        assert word is not None
        value, end = word[0], word.end()
    return Term(
        name=name[2].lower() if name else "",
        negated=bool(name and name[1]),
        value=value,
        quoted=text.startswith('"', at),
        start=start,
        end=end,
    )


def _quoted_value(text: str, start: int) -> tuple[str, int]:
    match = _QUOTED.match(text, start)
    if match is None:
        raise UnusableFilter(
            _('A quotation mark is missing at the end. Inside quotes \\" stands for one.'),
            start=start,
            end=len(text),
        )
    if match.end() < len(text) and not text[match.end()].isspace():
        raise UnusableFilter(
            _('Something follows a quotation mark. Inside quotes \\" stands for one.'),
            start=match.end(),
            end=match.end() + 1,
        )
    return _ESCAPED.sub(r"\1", match[1]), match.end()


def _check_characters(text: str) -> None:
    """Refuse what no text in a database has."""
    for at, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise UnusableFilter(
                _("No text that can be found has this character."), start=at, end=at + 1
            )
