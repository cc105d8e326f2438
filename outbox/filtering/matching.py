"""Compare with a pattern where the regular expressions of the database may take for ever."""

from typing import Any

from django.db.models import BooleanField, F, Value
from django.db.models.expressions import Func

from outbox.message.patterns import matches

_NAME = "outbox_matches"


class Matches(Func):
    """Whether a pattern selects what a column has, for SQLite.

    Its regular expressions are those of Python, which go back and forth in a long text. This looks
    at each word of it once.
    """

    output_field = BooleanField()
    function = _NAME

    def __init__(self, column: str, pattern: str, **extra: Any) -> None:
        super().__init__(F(column), Value(pattern), **extra)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        connection.ensure_connection()
        connection.connection.create_function(_NAME, 2, _matches)
        return self.as_sql(compiler, connection, **context)


def _matches(text: str | None, pattern: str) -> bool | None:
    return None if text is None else matches(pattern, text)
