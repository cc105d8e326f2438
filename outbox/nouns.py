"""Numbers with their nouns, for people."""

from decimal import Decimal

from django.utils.formats import number_format


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and what it counts: "1 message", "1,204 messages".

    `many` is what more than one are called, by default `one` with an s; a verb may be part of both.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def grouped(value: float, digits: int = 0) -> str:
    """Return a number as the language of the page writes it: 1,204 in English, 1.204 in German."""
    return number_format(Decimal(f"{value:.{digits}f}"), digits, force_grouping=True)
