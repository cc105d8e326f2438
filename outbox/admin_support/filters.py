"""List filters that stay fast on tables of any size."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

OPEN = "open"
ALL = "all"


class ChoiceFilter(SimpleListFilter):
    """A filter by one of a few known values; ignores all others.

    What an index can find goes through queryset(). What has to be compared row by row is
    returned by unindexed(); the list then looks through a bounded part of the table.
    """

    template = "outbox/admin/filter.html"

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


class OpenFilter(ColumnFilter):
    """A filter by state that begins with what is open; a search begins with all that it finds."""

    title = _("state")
    parameter_name = column = "state"
    states: ClassVar[Sequence[tuple[str, Any]]]
    open_states: ClassVar[Sequence[str]]

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        self._first = ALL if request.GET.get(SEARCH_VAR) else OPEN

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(OPEN, _("open")), (ALL, _("All")), *self.states]

    @property
    def chosen(self) -> str:
        return super().chosen or self._first

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        for value, title in self.lookup_choices:
            yield {
                "selected": value == self.chosen,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }

    def unindexed(self) -> Q | None:
        if self.chosen == ALL:
            return None
        return Q(state__in=self.open_states) if self.chosen == OPEN else super().unindexed()
