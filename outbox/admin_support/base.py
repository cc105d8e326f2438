"""Admin pages to look at, never to edit rows: the base of all our ModelAdmins."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property

from outbox.admin_support.filters import ChoiceFilter
from outbox.admin_support.keyset import Page, Place, Reader


class UncountedPaginator(Paginator):  # type: ignore[type-arg]
    """Stands in where Django wants a paginator; never asks the database for a count."""

    @cached_property
    def count(self) -> int:
        return 0


class KeysetChangeList(ChangeList):
    """A list that is read by primary key, newest first, whatever the size of the table."""

    model_admin: "ReadOnlyAdmin"

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        self.place = Place.parse(request.GET.get(PAGE_VAR, ""))
        self.page = self._read()
        self.newer_url = self._url(self.page.newer)
        self.older_url = self._url(self.page.older)
        self.newest_url = self.get_query_string() if self.place else None
        self.result_list = self.page.rows
        # What Django's templates ask for; equal counts keep "n results" out of the search form.
        self.result_count = self.full_result_count = len(self.page.rows)
        self.show_full_result_count = False
        self.show_admin_actions = bool(self.model_admin.get_actions(request))
        self.can_show_all = True
        self.multi_page = False
        self.paginator = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)

    def matching(self) -> QuerySet[Any]:
        """Return all rows that search and filters select, on whatever page."""
        found: QuerySet[Any] = self.queryset.filter(*self._unindexed())
        if self.query:
            conditions = self.model_admin.search_conditions(self.query)
            found = found.filter(reduce(or_, conditions, Q()))
        return found

    def _unindexed(self) -> list[Q]:
        conditions = (s.unindexed() for s in self.filter_specs if isinstance(s, ChoiceFilter))
        return [condition for condition in conditions if condition is not None]

    def _read(self) -> Page:
        reader = Reader(
            queryset=self.queryset.defer(*self.model_admin.list_defer),
            size=self.list_per_page,
            alternatives=self.model_admin.search_conditions(self.query) if self.query else (),
            unindexed=self._unindexed(),
        )
        return reader.read(self.place)

    def _url(self, place: Place | None) -> str | None:
        return self.get_query_string({PAGE_VAR: str(place)}) if place else None


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows to staff with the view permission.

    Every fieldset is read-only. `list_defer` names columns that are too large for a list. The
    search box finds exact values: search_conditions() returns one condition for each column, all
    of them indexed.
    """

    change_list_template = "outbox/admin/list.html"
    change_form_template = "outbox/admin/detail.html"
    paginator = UncountedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    actions: Sequence[Any] | None = None
    list_defer: ClassVar[Sequence[str]] = ()

    class Media:
        css: ClassVar = {"all": ["outbox/admin.css"]}

    def search_conditions(self, term: str) -> list[Q]:
        """Return the conditions of which one must hold for a row to be found."""
        return [Q(**{name: term}) for name in self.search_fields]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return queryset, False  # the change list reads page by page what search_conditions() say

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return flatten_fieldsets(self.get_fieldsets(request, obj))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow what our filters understand: a lookup on any column could scan, or be an oracle."""
        filters = self.get_list_filter(request) if request else self.list_filter
        return lookup in {getattr(each, "parameter_name", None) for each in filters}

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        request.current_app = self.admin_site.name
        return super().change_view(request, object_id, form_url, extra_context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
