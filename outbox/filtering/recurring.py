"""Qualifiers that several models have: how old a row is, whose it is, what its error says."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from outbox.filtering import values
from outbox.filtering.qualifiers import Meaning, Qualifier

ERROR = Qualifier(
    name="error",
    meaning=_("a text within the error, as it is shown"),
    example="timed out",
    condition=values.said("error"),
)


def age(column: str, meaning: Any) -> Qualifier:
    """Return the qualifier for how long ago the time in a column is; `meaning` says of what."""
    return Qualifier(
        name="age",
        meaning=meaning,
        example=">1h",
        condition=values.age(column),
        known=lambda: ("<1h", ">1h", ">1d"),
    )


def message_id(condition: Meaning, index: str) -> Qualifier:
    """Return the qualifier for the id of a message, which an index finds."""
    return Qualifier(
        name="id",
        meaning=_("message id, exactly"),
        example="0193f5a0-8f6e-7000-8000-000000000000",
        condition=condition,
        index=index,
        negatable=False,
    )
