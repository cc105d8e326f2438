"""NaN and infinity, which JSON does not have, in the place of a number.

The decoders refuse their literals. This is about text that a class reads as a number: "NaN" for a
Decimal, say.
"""

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from outbox.exceptions import UndecodableMessage

NUMBERS = (float, Decimal)
SEQUENCES = (list, tuple, set, frozenset)

# As Python reads numbers: in any case, with underscores and spaces anywhere around.
_NO_NUMBER = re.compile(r"\s*[+-]?(s?nan\d*|inf(inity)?)\s*", re.IGNORECASE)
# Without one of these, which are quickly looked for, there is no such text; it may be escaped.
_MAYBE = re.compile(rb"n_*a_*n|i_*n_*f|\\u", re.IGNORECASE)


def refuse_not_finite(event: object, body: bytes) -> None:
    """Raise UndecodableMessage for an event that has read NaN or infinity from text in `body`."""
    # The text must be there: a field that is left out may well be infinite by default.
    if _MAYBE.search(body) and any(map(_is_no_number, _texts(msgspec.json.decode(body)))):
        _refuse(event, "$")


def _is_no_number(text: str) -> bool:
    return bool(_NO_NUMBER.fullmatch(text.replace("_", "")))


def _texts(value: Any) -> Iterator[str]:
    """Return all strings in JSON values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _refuse(value: Any, path: str) -> None:
    if isinstance(value, NUMBERS):
        # math.isfinite() fails on a signaling NaN.
        if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
            raise UndecodableMessage(f"not a finite number at {path}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _refuse(name, f"a key of {path}")
            _refuse(item, f"{path}[...]")
    elif isinstance(value, SEQUENCES):
        for index, item in enumerate(value):
            _refuse(item, f"{path}[{index}]")
    else:
        for field in _fields(value.__class__):
            _refuse(getattr(value, field, None), f"{path}.{field}")


@cache
def _fields(cls: type) -> tuple[str, ...]:
    """Return the names of the fields of a Struct, dataclass or pydantic model; of others none."""
    places = ("__struct_fields__", "__dataclass_fields__", "model_fields")
    return next((tuple(getattr(cls, place)) for place in places if hasattr(cls, place)), ())
