"""Admin pages to look at, never to edit rows: the base of all our ModelAdmins."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.core.paginator import Paginator
from django.db import Error
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy

from outbox.admin_support.filter_bar import FilterBar, addresses
from outbox.admin_support.filters import ChoiceFilter
from outbox.admin_support.html import may_view
from outbox.admin_support.keyset import Page, Place, Reader
from outbox.database.failures import is_canceled
from outbox.database.limits import limited
from outbox.exceptions import UnusableFilter
from outbox.filtering.qualifiers import Selection, Sight, models, select

LIMIT = 2.0
"""Seconds that a statement of a list may take."""

_ID = re.compile(r"[0-9]{1,18}")


TOO_MUCH = gettext_lazy(
    "There is too much to compare in time. Add a condition that an index finds."
)


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
        self.page = self._read_in_time(request.GET.get(SEARCH_VAR, "").strip(), _sight(request))
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
        """Return all rows that the filter's text and the other filters select, on whatever page."""
        return self.selection.of(self.queryset.filter(*self._unindexed()))

    def _read_in_time(self, text: str, sight: Sight) -> Page:
        """Return the page with what its rows are shown with, or one without rows that says why."""
        try:
            with limited(self.queryset.db, LIMIT):
                self._select(text, sight)
                page = self._read()
                self.model_admin.prepare(page.rows, self.queryset.db)
                return page
        except Error as exc:
            if not is_canceled(exc):
                raise
        self._select_nothing(text, sight, UnusableFilter(str(TOO_MUCH), end=len(text)))
        return Page(rows=[])

    def _select(self, text: str, sight: Sight) -> None:
        """Understand the filter's text; one that cannot be used selects nothing, and says why."""
        try:
            self.selection = select(self.model, text, self.queryset.db, sight=sight)
        except UnusableFilter as exc:
            self._select_nothing(text, sight, exc)
        else:
            self.bar = FilterBar(self.model, text, None, addresses(self, SEARCH_VAR), sight)
            self.search_var = SEARCH_VAR

    def _select_nothing(self, text: str, sight: Sight, mistake: UnusableFilter) -> None:
        self.selection = Selection()
        self.queryset = self.queryset.none()
        self.bar = FilterBar(self.model, text, mistake, addresses(self, SEARCH_VAR), sight)
        self.search_var = SEARCH_VAR

    def _unindexed(self) -> list[Q]:
        conditions = (s.unindexed() for s in self.filter_specs if isinstance(s, ChoiceFilter))
        return [condition for condition in conditions if condition is not None]

    def _read(self) -> Page:
        if self.bar.mistake:
            return Page(rows=[])
        reader = Reader.over(
            self.queryset.defer(*self.model_admin.list_defer),
            self.selection,
            self.list_per_page,
            also=self._unindexed(),
        )
        return reader.read(self.place)

    def _url(self, place: Place | None) -> str | None:
        return self.get_query_string({PAGE_VAR: str(place)}) if place else None


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows to staff with the view permission.

    Every fieldset is read-only. `list_defer` names columns that are too large for a list. What the
    filter bar finds is declared for the model, see outbox.filtering.
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
        css: ClassVar = {"all": ["outbox/admin.css", "outbox/pages.css"]}

    def prepare(self, rows: Sequence[Any], using: str) -> None:
        """Give rows what they are shown with, for all of a page at once."""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return queryset, False  # the change list reads page by page what the filter's text says

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        request.current_app = self.admin_site.name  # Django's own sets it when all is read
        shown = {"lists": _lists(self, request)}
        return super().changelist_view(request, shown | (extra_context or {}))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return KeysetChangeList

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return flatten_fieldsets(self.get_fieldsets(request, obj))

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow what our filters understand: a lookup on any column could scan, or be an oracle."""
        filters = self.get_list_filter(request) if request else self.list_filter
        return lookup in {getattr(each, "parameter_name", None) for each in filters}

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run an action on the rows that were selected, and on no others.

        What is no id was not selected. Nor is "all" an answer: that would be whatever the filters
        let through, since the search is none of the queryset's business.
        """
        form = request.POST.copy()
        chosen = [each for each in form.getlist(ACTION_CHECKBOX_NAME) if _ID.fullmatch(each)]
        form.setlist(ACTION_CHECKBOX_NAME, list(dict.fromkeys(chosen)))
        form["select_across"] = "0"
        request.POST = form  # type: ignore[assignment]
        return super().response_action(request, queryset, *args, **kwargs)

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


def _sight(request: HttpRequest) -> Sight:
    """Return which rows of other models a filter may tell a user of."""
    return lambda rows: rows if may_view(request, rows.model) else None


def _lists(own: ReadOnlyAdmin, request: HttpRequest) -> list[tuple[str, str, bool]]:
    """Return the lists that a user may see: name, address and whether it is this one."""
    site = own.admin_site
    return [
        (
            str(model._meta.verbose_name_plural),
            reverse(
                f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist",
                current_app=site.name,
            ),
            model is own.model,
        )
        for model in models()
        if site.is_registered(model) and may_view(request, model)
    ]
