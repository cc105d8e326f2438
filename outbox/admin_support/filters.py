"""List filters that stay fast on tables of any size."""

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest


class ChoiceFilter(SimpleListFilter):
    """A filter by one of a few known values; ignores all others."""

    @property
    def chosen(self) -> str | None:
        """The value, if it is one of the choices."""
        value = self.value()
        return value if value in {str(choice) for choice, _ in self.lookup_choices} else None


class UnindexedFilter(ChoiceFilter):
    """A filter by a column without an index: a page looks through a bounded part of the table.

    Its choices come from the program, not from a SELECT DISTINCT.
    """

    column: str

    @property
    def condition(self) -> Q | None:
        """What a row must fulfil, or None for any."""
        return Q(**{self.column: self.chosen}) if self.chosen is not None else None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset  # the change list applies `condition` itself
