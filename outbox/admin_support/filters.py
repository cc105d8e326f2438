"""List filters that stay fast on tables of any size."""

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest


class ChoiceFilter(SimpleListFilter):
    """A filter by one of a few known values; ignores all others.

    What an index can find goes through queryset(). What has to be compared row by row is
    returned by unindexed(); the list then looks through a bounded part of the table.
    """

    @property
    def chosen(self) -> str | None:
        """The value, if it is one of the choices."""
        value = self.value()
        return value if value in {str(choice) for choice, _ in self.lookup_choices} else None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset

    def unindexed(self) -> Q | None:
        """Return what a row must fulfil beyond queryset(), or None; asked after queryset()."""
        return None


class ColumnFilter(ChoiceFilter):
    """A filter by a column without an index; its choices come from the program."""

    column: str

    def unindexed(self) -> Q | None:
        return None if self.chosen is None else Q(**{self.column: self.chosen})
