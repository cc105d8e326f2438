"""The bar above a list where a filter is written: what it may say, and what is wrong with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Model
from django.utils.functional import cached_property

from outbox.admin_support.html import Content
from outbox.exceptions import UnusableFilter
from outbox.filtering import grammar
from outbox.filtering.qualifiers import Qualifier, Sight, declared, offered, suggestions

SUGGESTED = 150
"""Beginnings of filters that the browser offers while somebody types."""
FIXES = 20
"""Values that stand as links beside a mistake."""

Address = Callable[[str], str]
"""Returns the address of the list with another filter."""


@dataclass(frozen=True, slots=True)
class Help:
    """A qualifier, with the address of what its example finds beside the present filter."""

    qualifier: Qualifier
    example: str
    url: str


class FilterBar:
    """What the template of the bar shows. `address` leads to the list with another text."""

    def __init__(
        self,
        model: type[Model],
        text: str,
        mistake: UnusableFilter | None,
        address: Address,
        sight: Sight,
    ) -> None:
        self._model = model
        self._sight = sight
        self._address = address
        self.text = text
        self.mistake = mistake

    @property
    def is_there(self) -> bool:
        """Whether there is anything that can be looked for."""
        return bool(declared(self._model).qualifiers)

    @property
    def words_meaning(self) -> Content:
        return declared(self._model).words_meaning

    @property
    def marked(self) -> tuple[str, str, str]:
        """The text before, in and behind a mistake."""
        if self.mistake is None:
            return self.text, "", ""
        start, end = self.mistake.start, self.mistake.end
        return self.text[:start], self.text[start:end], self.text[end:]

    @cached_property
    def fixes(self) -> list[tuple[str, str]]:
        """What may stand in the place of a mistake, each with the address of what it finds."""
        if self.mistake is None:
            return []
        before, wrong, behind = self.marked
        return [
            (value, self._address(f"{before}{_replaced(wrong, value)}{behind}".strip()))
            for value in self.mistake.possible[:FIXES]
        ]

    def suggestions(self) -> Iterator[str]:
        """Yield filters that begin with the present one, for the browser to complete."""
        start = "" if self.mistake or not self.text else f"{self.text.rstrip()} "
        for each in suggestions(self._model, SUGGESTED, sight=self._sight):
            yield start + each

    def help(self) -> Iterator[Help]:
        """Yield what can be looked for, and what cannot."""
        start = "" if self.mistake or not self.text else f"{self.text.rstrip()} "
        for each in offered(self._model, self._sight):
            example = grammar.term(each.name, each.example) if not each.refused else each.name
            yield Help(each, example, "" if each.refused else self._address(start + example))


def _replaced(wrong: str, value: str) -> str:
    """Return a term with another value, or with another name if that is what a value is."""
    name, colon, rest = wrong.partition(":")
    if value.endswith(":"):
        return value + (rest if colon else wrong)
    return f"{name}{colon}{grammar.written(value)}" if colon else value


def addresses(changelist: Any, parameter: str) -> Address:
    """Return what makes the addresses of a list, which keep its other filters."""
    return lambda text: str(changelist.get_query_string({parameter: text}))
