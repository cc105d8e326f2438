"""What people may do to rows that are otherwise read-only: buttons, actions, what came of it."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, cast

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import IS_POPUP_VAR, IncorrectLookupParameters
from django.contrib.admin.sites import all_sites
from django.contrib.admin.utils import label_for_field, lookup_field
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import Error, router
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods, require_POST

from outbox.admin_support import html
from outbox.admin_support.base import (
    LIMIT,
    TOO_MUCH,
    KeysetChangeList,
    ReadOnlyAdmin,
)
from outbox.admin_support.bulk import Answer, Batch, first_batch, next_batch
from outbox.admin_support.html import Content
from outbox.admin_support.row_actions import (
    REASON,
    Button,
    RowAction,
    may,
    next_url,
    noun,
    reason_of,
    says_why,
    with_next,
)
from outbox.database.failures import is_canceled
from outbox.database.limits import limited
from outbox.nouns import grouped
from outbox.operations import MAX_REASON, Operation, carry_out

EXAMPLES = 3
"""Rows that a page shows which asks whether something shall be done to many."""
CONFIRMED = "confirmed"
SECONDS = 10.0
"""How long a request goes on with the next rows."""
FIRST = 10
"""Rows that are done first, to see how long they take; then twice as many each time."""


class ActingAdmin(ReadOnlyAdmin):
    """Shows rows, and lets staff do about them what their permissions allow.

    Each of `row_actions` has a button on the page of a row, an action on those selected in a
    list, called as `action_name` says, and one on all that match search and filters.
    """

    row_actions: ClassVar[Sequence[RowAction]] = ()
    operations: ClassVar[Mapping[str, Operation]] = {}
    """What each of them does, by its verb."""
    action_name: ClassVar[str] = "{}_selected"
    has_history: ClassVar[bool] = True
    """Whether a row is there when something was done to it."""
    example_fields: ClassVar[Sequence[str]] = ("__str__",)
    """What a page shows of a row that asks about it."""

    def do(
        self, request: HttpRequest, action: RowAction, numbers: Collection[int]
    ) -> Collection[int]:
        """Do it as far as it can be done, and write it down; return the ids of what changed."""
        operation = self.operations[action.verb]
        return carry_out(operation, numbers, user=request.user, reason=reason_of(request))

    def why_left(self, action: RowAction, state: str) -> Content:
        """Return why it was not done to what is in a state now."""
        raise NotImplementedError

    def can(self, row: Any, verb: str) -> bool:
        """Tell whether something can be done to a row, whoever asks."""
        states = self.operations[verb].states
        return not states or row.state in states

    def open_to(self, rows: QuerySet[Any], action: RowAction) -> QuerySet[Any]:
        """Return those rows to which something can be done."""
        return self.operations[action.verb].open_to(rows)

    def may(self, request: HttpRequest, what: str) -> bool:
        """Tell whether the user may look at the rows and has the permission for a verb."""
        return self.has_view_permission(request) and may(request, self.model, what)

    # --- Lists ---------------------------------------------------------------------------------

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        if IS_POPUP_VAR in request.GET:
            return {}
        allowed = [action for action in self.row_actions if self.may(request, action.allowed_by)]
        values = {"nouns": noun(self.model, 2)}
        return {
            self.action_name.format(action.verb): (
                _on_selected(action),
                self.action_name.format(action.verb),
                _titled(_("%(what)s the selected %(nouns)s"), action, **values),
            )
            for action in allowed
        } | {
            _matching(action): (
                _on_nothing,
                _matching(action),
                _titled(_("%(what)s all %(nouns)s that match"), action, **values),
            )
            for action in allowed
        }

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        request.current_app = self.admin_site.name
        name = request.POST.get("action", "")
        action = next((each for each in self.row_actions if _matching(each) == name), None)
        if action is not None and name in self.get_actions(request):
            # Django would want a row to be selected. What it makes of a malformed filter is right.
            with suppress(IncorrectLookupParameters):
                answer = self._on_matching(request, action)
                return answer or HttpResponseRedirect(request.get_full_path())
        return super().changelist_view(request, extra_context)

    def on_selected(
        self, request: HttpRequest, action: RowAction, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        """Do it to those of a list that were selected; ask before, where that is due."""
        rows = to_change(queryset)
        asked = list(rows.order_by("-pk").values_list("pk", flat=True))
        selected = len(request.POST.getlist(ACTION_CHECKBOX_NAME))
        if action.warning and not _is_confirmed(request, action):
            numbers = list(self.open_to(rows, action).order_by("-pk").values_list("pk", flat=True))
            if numbers:
                fields = [("action", self.action_name.format(action.verb))]
                fields += [(ACTION_CHECKBOX_NAME, str(number)) for number in numbers]
                back = request.get_full_path()
                return self.ask(
                    request, action, numbers, fields, back, others=selected - len(numbers)
                )
        self.act(request, action, asked, gone=selected - len(asked))
        return None

    def _on_matching(self, request: HttpRequest, action: RowAction) -> HttpResponse | None:
        """Do it to the batch that a page has asked about, and ask about the next one."""
        found = cast(KeysetChangeList, self.get_changelist_instance(request)).matching()
        rows = self.open_to(to_change(found), action)
        answer = Answer.read(request.POST) if _is_confirmed(request, action) else None
        try:
            with limited(rows.db, LIMIT):
                if answer is None:
                    batch = first_batch(rows, to_change(self.get_queryset(request)))
                else:
                    numbers = list(answer.rows(rows).order_by("pk").values_list("pk", flat=True))
            if answer is not None:
                tried = self.act(request, action, numbers)
                if len(tried) < len(numbers):
                    answer = answer.before(numbers[len(tried)])
                with limited(rows.db, LIMIT):
                    batch = next_batch(answer, rows)
        except Error as exc:
            if not is_canceled(exc):
                raise
            self.message_user(request, TOO_MUCH, messages.WARNING)
            return None
        if batch is not None:
            fields = [("action", _matching(action)), *batch.fields()]
            back = request.get_full_path()
            return self.ask(request, action, batch.numbers, fields, back, batch=batch)
        if answer is None:
            self.act(request, action, [])
        return None

    # --- One row -------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        return [
            path(
                f"<path:object_id>/{action.verb}/",
                self.admin_site.admin_view(_on_row(self, action)),
                name=self.page_name(action.verb).removeprefix("admin:"),
            )
            for action in self.row_actions
        ] + super().get_urls()

    def on_row(self, request: HttpRequest, action: RowAction, object_id: str) -> HttpResponse:
        """Do it to one row, or ask whether it shall be done."""
        if not self.may(request, action.allowed_by):
            raise PermissionDenied
        row = self.row(request, object_id)
        back = next_url(request, self.row_url("change", row.pk))
        if request.method == "POST" and says_why(request, action):
            self.act(request, action, [row.pk])
        elif self.can(row, action.verb):
            return self.ask(request, action, [row.pk], [], back, row=row)
        else:
            self.tell_left(request, action, [row.pk], 0)
        return HttpResponseRedirect(back)

    def row(self, request: HttpRequest, object_id: str) -> Any:
        """Return a row as it is where it is written: what is done about it depends on that."""
        meta = self.model._meta
        try:
            number = meta.pk.to_python(object_id)
            return to_change(self.get_queryset(request)).get(pk=number)
        except (self.model.DoesNotExist, ValidationError, ValueError):
            raise Http404 from None

    def buttons(self, request: HttpRequest, row: Any, *, back: str = "") -> list[Button]:
        """Return what the user may do about a row; each leads back to a page, or to its own."""
        return [
            Button(action, with_next(self.row_url(action.verb, row.pk), back))
            for action in self.row_actions
            if self.can(row, action.verb) and self.may(request, action.allowed_by)
        ]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        row = context["original"]
        context["buttons"] = self.buttons(request, row)
        if self.has_history:
            context["history_url"] = self.row_url("history", row.pk)
        return super().render_change_form(request, context, *args, **kwargs)

    # --- Asking, doing, telling ----------------------------------------------------------------

    def ask(
        self,
        request: HttpRequest,
        action: RowAction,
        numbers: Sequence[int],
        fields: Sequence[tuple[str, str]],
        back: str,
        *,
        row: Any = None,
        others: int = 0,
        more: bool = False,
        batch: Batch | None = None,
    ) -> HttpResponse:
        """Return a page that says what would be done to how many rows, with a few of them.

        `row` is the one that is asked about on a page of its own, `batch` says how far it is with
        all that match. The form sends `fields` to the address that the page has.
        """
        request.current_app = self.admin_site.name
        count, rows = grouped(len(numbers)), noun(self.model, len(numbers))
        headings, examples = self.examples(request, numbers[:EXAMPLES])
        context = {
            **self.admin_site.each_context(request),
            "title": _titled(_("%(what)s %(count)s %(noun)s?"), action, count=count, noun=rows),
            "submit": _("Yes, %(title)s") % {"title": action.within_text},
            "opts": self.model._meta,
            "media": self.media,
            "action": action,
            "original": row,
            "row_url": self.row_url("change", row.pk) if row else "",
            "fields": [*fields, (CONFIRMED, "yes")],
            "headings": headings,
            "examples": [list(zip(headings, cells, strict=True)) for cells in examples],
            "examples_left": len(numbers) - EXAMPLES,
            "others": others,
            "more": more,
            "batch": batch,
            "reason_field": REASON,
            "reason": reason_of(request),
            "max_reason": MAX_REASON,
            "back_url": back,
            "list_url": self.list_url(),
        }
        return TemplateResponse(request, "outbox/admin/confirm.html", context)

    def examples(
        self, request: HttpRequest, numbers: Sequence[int]
    ) -> tuple[list[str], list[list[Content]]]:
        """Return headings and cells for a few rows, the newest first, each with a link to it."""
        found = to_change(self.get_queryset(request)).filter(pk__in=numbers)
        rows = list(found.defer(*self.list_defer).order_by("-pk"))
        self.prepare(rows, found.db)
        headings = [
            capfirst(str(label_for_field(name, self.model, self))) for name in self.example_fields
        ]
        return headings, [self._example(request, row) for row in rows]

    def _example(self, request: HttpRequest, row: Any) -> list[Content]:
        first, *cells = (
            lookup_field(name, row, self)[2] or html.DASH for name in self.example_fields
        )
        return [html.detail_link(request, row, first), *cells]

    def act(
        self, request: HttpRequest, action: RowAction, numbers: Collection[int], *, gone: int = 0
    ) -> Sequence[int]:
        """Do it, and say what came of it; return those rows that it was tried on.

        `gone` are not in the list any more. In a request that has taken SECONDS nothing more is
        begun.
        """
        changed, tried = self.do_in_time(request, action, sorted(numbers))
        if changed:
            self.tell_done(request, action, changed)
        if not numbers and not gone:
            text = _("There are no %(nouns)s to which that can be done.")
            nouns = {"nouns": noun(self.model, 2)}
            self.message_user(request, text % nouns, messages.WARNING)
        self.tell_left(request, action, set(tried) - set(changed), gone)
        if later := len(numbers) - len(tried):
            text = _("The time of a request is over: %(count)s had no turn yet. Do it again.")
            self.message_user(request, text % {"count": grouped(later)}, messages.WARNING)
        return tried

    def do_in_time(
        self, request: HttpRequest, action: RowAction, numbers: Sequence[int]
    ) -> tuple[list[int], Sequence[int]]:
        """Do it to more and more rows at once; return those that changed, and those tried.

        Each part is written down before the next begins, so that a process that ends in between
        leaves nothing half done.
        """
        changed: list[int] = []
        done, size, end = 0, FIRST, time.monotonic() + SECONDS
        while done == 0 or (done < len(numbers) and time.monotonic() < end):
            part = numbers[done : done + size]
            changed += self.do(request, action, part)
            done, size = done + len(part), size * 2
            if not part:
                break
        return changed, numbers[:done]

    def tell_done(self, request: HttpRequest, action: RowAction, changed: Collection[int]) -> None:
        """Say to how many rows it was done, and where several are found that can be restored."""
        text = str(action.tell(self.model, len(changed)))
        if action.verb == "discard" and len(changed) > 1:
            show = _("Show what is discarded, to restore it.")
            text = format_html(
                '{} <a href="{}?state=discarded">{}</a>', text, self.list_url(), show
            )
        self.message_user(request, text, messages.SUCCESS)

    def tell_left(
        self, request: HttpRequest, action: RowAction, left: Collection[int], gone: int
    ) -> None:
        """Say how many rows of which state were left alone, and why: their states are those now."""
        rows = to_change(self.model._default_manager.all()).filter(pk__in=left)
        counts = Counter(rows.values_list("state", flat=True)) if left else Counter()
        labels = dict(self.model._meta.get_field("state").flatchoices)
        parts = [
            _("%(count)d %(state)s: %(why)s")
            % {"count": counts[state], "state": labels[state], "why": self.why_left(action, state)}
            for state in labels
            if counts[state]
        ]
        if gone := gone + len(left) - counts.total():
            parts.append(_("%(count)d no longer in the list") % {"count": gone})
        if parts:
            text = _("Left alone: %(rows)s.") % {"rows": "; ".join(map(str, parts))}
            self.message_user(request, text, messages.WARNING)

    # --- Addresses -----------------------------------------------------------------------------

    def row_url(self, page: str, number: int) -> str:
        """Return the address of a page of one row, such as its "history"."""
        return reverse(self.page_name(page), args=(number,), current_app=self.admin_site.name)

    def list_url(self) -> str:
        """Return the address of the list."""
        return reverse(self.page_name("changelist"), current_app=self.admin_site.name)

    def page_name(self, page: str) -> str:
        """Return the name by which the address of a page is found."""
        meta = self.model._meta
        return f"admin:{meta.app_label}_{meta.model_name}_{page}"

    def get_paginator(self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any) -> Any:
        # The history of one row is short, and its page wants to know how short.
        if queryset.model is LogEntry:
            return Paginator(queryset, *args, **kwargs)
        return super().get_paginator(request, queryset, *args, **kwargs)


def acting_admin(request: HttpRequest, model: type[Model]) -> ActingAdmin | None:
    """Return what acts on the rows of a model, on the site of a request; None if nothing does."""
    name = getattr(request, "current_app", None)
    site = next((each for each in all_sites if each.name == name), None)
    if site is None or not site.is_registered(model):
        return None
    found = site.get_model_admin(model)
    return found if isinstance(found, ActingAdmin) else None


def row_buttons(request: HttpRequest, row: Model) -> Content:
    """Return what the user may do about a row, for a panel on the page of another one."""
    found = acting_admin(request, type(row))
    buttons = [] if found is None else found.buttons(request, row, back=request.path)
    return format_html_join(" ", "{}", ((button.within_form(),) for button in buttons))


def to_change(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return rows that a list shows from the database that is written.

    What a list is read from may be a replica, and late. Nothing is decided by it.
    """
    return rows.using(router.db_for_write(rows.model))


def _titled(text: Content, action: RowAction, **values: str) -> str:
    """Return a heading with an action, wherever in it a language has its verbs."""
    return capfirst(str(text) % {"what": action.within_text, **values})


def _matching(action: RowAction) -> str:
    return f"{action.verb}_matching"


def _is_confirmed(request: HttpRequest, action: RowAction) -> bool:
    return CONFIRMED in request.POST and says_why(request, action)


def _on_selected(
    action: RowAction,
) -> Callable[[ActingAdmin, HttpRequest, Any], HttpResponse | None]:
    def call(acting: ActingAdmin, request: HttpRequest, rows: Any) -> HttpResponse | None:
        return acting.on_selected(request, action, rows)

    return call


def _on_nothing(acting: ActingAdmin, request: HttpRequest, rows: Any) -> None:
    """Stand for an action that changelist_view() takes before Django asks for a selection."""


def _on_row(acting: ActingAdmin, action: RowAction) -> Callable[[HttpRequest, str], HttpResponse]:
    methods = require_http_methods(["GET", "HEAD", "POST"]) if action.warning else require_POST

    def view(request: HttpRequest, object_id: str) -> HttpResponse:
        return acting.on_row(request, action, object_id)

    return methods(view)
