"""Compare errors as people see them: without what is masked, so that no filter confirms a guess.

PostgreSQL cannot mask as error_text.masked() does. What it compares has less than that: behind the
name of a secret the rest of its line is left out.
"""

import re
from functools import lru_cache
from typing import Any

from django.db.models import F, TextField, Value
from django.db.models.expressions import Func
from django.db.models.functions import Coalesce

from outbox.conf import outbox_settings
from outbox.error_text import HIDDEN, masked

_TWINS = {"s": "\u017f", "k": "\u212a", "i": "\u0131\u0130"}
"""What Python takes for a letter beside its other case."""
_MASK = "outbox_masked"


class AsShown(Func):
    """The text of a column without secrets, as an expression; an empty text for none."""

    output_field = TextField()

    def __init__(self, column: str, **extra: Any) -> None:
        super().__init__(Coalesce(F(column), Value("", TextField())), **extra)

    def as_postgresql(
        self, compiler: Any, connection: Any, **_: Any
    ) -> tuple[str, tuple[Any, ...]]:
        column, parameters = compiler.compile(self.get_source_expressions()[0])
        finds = secrets_as_regex(tuple(outbox_settings().REDACT))
        return f"regexp_replace({column}, %s, %s, 'gi')", (*parameters, finds, HIDDEN)

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = compiler.compile(self.get_source_expressions()[0])
        words = tuple(outbox_settings().REDACT)
        connection.ensure_connection()
        connection.connection.create_function(_MASK, 1, lambda text: masked(str(text), words))
        return f"{_MASK}({column})", tuple(parameters)


@lru_cache(8)
def secrets_as_regex(words: tuple[str, ...]) -> str:
    """Return a regular expression of PostgreSQL for all that masked() masks, and some more."""
    # A bound cannot be above 255 there.
    user = r"[^\s/?#'\"<>]"
    parts = [
        rf"://{user}{{1,255}}{user}{{0,45}}@",
        r"Failing row contains \([^\n]*",
        r"\yinput_value=[^\n]*",
    ]
    if word := "|".join(map(_in_any_case, words)):
        parts += [
            rf"\yKey \([^\n]*(?:{word})[^\n]*",
            rf"(?:{word})[^\s=:]*[ \t]*[=:][^\n]*",
        ]
    return "|".join(parts)


def _in_any_case(word: str) -> str:
    return "".join(map(_letter, word))


def _letter(letter: str) -> str:
    if letter in "-_":
        return "[-_]"
    forms = sorted({letter, letter.lower(), letter.upper(), *_TWINS.get(letter.lower(), "")})
    if not letter.isalnum():
        return re.escape(letter)
    return "(?:" + "|".join(forms) + ")"
