"""What staff can do about receipts and dead letters: one at a time, as selected, or as filtered.

Each takes a permission of its own, and is written to the log of the admin.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from inbox.actions import Done, NotPossible
from inbox.delivery import Delivery
from inbox.models import DeadLetter, Original, Receipt
from inbox.states import CLOSED, State
from outbox.admin_support import html, payload
from outbox.admin_support.actions import ActingAdmin, write_down
from outbox.admin_support.base import KeysetChangeList
from outbox.admin_support.extensions import Panel
from outbox.admin_support.html import Content

MATCHING = 1_000
"""Rows that one request changes of all that match the filter."""
EDITABLE = 1024 * 1024
"""Bytes of a body that can be edited in a form."""

Act = Callable[..., Done]


class EditForm(forms.Form):
    """A message to edit. `seen` says what was there when the form was made."""

    seen = forms.CharField(widget=forms.HiddenInput)
    content_type = forms.CharField(label=_("Content type"), max_length=255, required=False)
    headers = forms.CharField(
        label=_("Headers"),
        widget=forms.Textarea(attrs={"rows": 12, "class": "vLargeTextField"}),
        help_text=_("A JSON object"),
    )
    body = forms.CharField(
        label=_("Body"),
        strip=False,
        required=False,
        widget=forms.Textarea(attrs={"rows": 20, "class": "vLargeTextField"}),
    )

    def clean_headers(self) -> dict[str, Any]:
        try:
            found = json.loads(self.cleaned_data["headers"])
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise forms.ValidationError(_("This is no JSON object."))
        return found


class ActionableAdmin(ActingAdmin):
    """A page with actions on rows that are open."""

    change_form_template = "inbox/admin/detail.html"
    actions = ("retry_selected", "discard_selected", "retry_matching", "discard_matching")

    acts: ClassVar[dict[str, Act]]
    """What retrying and discarding are for these rows."""
    states_for: ClassVar[dict[str, Sequence[State]]]
    """In which states that can be done."""
    untouched: ClassVar[dict[str, Content]] = {
        "retry": _("in work at the moment"),
        "discard": _("in work at the moment"),
    }
    """Why it was not done to what is in such a state still."""

    # --- Permissions ---------------------------------------------------------------------------

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "retry")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "discard")

    # --- Actions on lists ----------------------------------------------------------------------

    @admin.action(description=_("Retry the selected"), permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: Any) -> None:
        self._act(request, "retry", list(queryset.values_list("pk", flat=True)))

    @admin.action(description=_("Discard the selected"), permissions=["discard"])
    def discard_selected(self, request: HttpRequest, queryset: Any) -> None:
        self._act(request, "discard", list(queryset.values_list("pk", flat=True)))

    @admin.action(description=_("Retry all that match search and filters"), permissions=["retry"])
    def retry_matching(self, request: HttpRequest, queryset: Any) -> None:
        self._act_on_matching(request, "retry")

    @admin.action(
        description=_("Discard all that match search and filters"), permissions=["discard"]
    )
    def discard_matching(self, request: HttpRequest, queryset: Any) -> None:
        self._act_on_matching(request, "discard")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        name = request.POST.get("action", "")
        if name.endswith("_matching") and name in self.get_actions(request):
            # Django would want a row to be selected.
            self._act_on_matching(request, name.removesuffix("_matching"))
            return HttpResponseRedirect(request.get_full_path())
        return super().changelist_view(request, extra_context)

    def _act_on_matching(self, request: HttpRequest, what: str) -> None:
        found = cast(KeysetChangeList, self.get_changelist_instance(request)).matching()
        found = found.filter(state__in=self.states_for[what]).order_by("pk")
        numbers = list(found.values_list("pk", flat=True)[: MATCHING + 1])
        self._act(request, what, numbers[:MATCHING])
        if len(numbers) > MATCHING:
            text = _("These were the first %(count)s. Do it again for more.")
            self.message_user(request, text % {"count": f"{MATCHING:,}"}, messages.WARNING)

    def _act(self, request: HttpRequest, what: str, numbers: Collection[int]) -> None:
        """Do it, say how much of it was done, and log it."""
        done = self.acts[what](numbers, using=router.db_for_write(self.model))
        self._log(request, done.changed, {"retry": "Retried.", "discard": "Discarded."}[what])
        if done.changed:
            if what == "retry":
                text = ngettext(
                    "%(count)d is retried.", "%(count)d are retried.", len(done.changed)
                )
            else:
                text = ngettext(
                    "%(count)d is discarded.", "%(count)d are discarded.", len(done.changed)
                )
            self.message_user(request, text % {"count": len(done.changed)}, messages.SUCCESS)
        if not numbers:
            self.message_user(request, _("Nothing of the kind is open."), messages.WARNING)
        rows = self.model._default_manager.using(router.db_for_write(self.model))
        self.tell_left(request, rows.all(), done.left, lambda state: self._why_left(what, state))

    def _why_left(self, what: str, state: str) -> Content:
        """Return why an action has left what is in a state now."""
        if state in self.states_for[what]:
            return self.untouched[what]
        if state in CLOSED:
            return _("that is over")
        return _("it goes on by itself when what it waits for is processed")

    def _log(self, request: HttpRequest, numbers: Collection[int], text: str) -> None:
        if numbers:
            rows = self.model._default_manager.filter(pk__in=numbers).defer(*self.list_defer)
            write_down(request, rows, text)

    # --- One row ---------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        meta = self.model._meta
        name = f"{meta.app_label}_{meta.model_name}"
        views = {"retry": self._retry_view, "discard": self._discard_view, "edit": self.edit_view}
        return [
            path(
                f"<path:object_id>/{what}/",
                self.admin_site.admin_view(view),
                name=f"{name}_{what}",
            )
            for what, view in views.items()
        ] + super().get_urls()

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        row = context["original"]
        titles = {"retry": _("Retry"), "discard": _("Discard")}
        context["tools"] = [
            {"title": title, "url": self.row_url(what, row.pk)}
            for what, title in titles.items()
            if row.state in self.states_for[what] and self.may(request, what)
        ]
        if row.state in self.states_for["edit"] and self.may(request, "edit"):
            context["edit_url"] = self.row_url("edit", row.pk)
        return super().render_change_form(request, context, *args, **kwargs)

    def _retry_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act_view(request, object_id, "retry")

    def _discard_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act_view(request, object_id, "discard")

    def _act_view(self, request: HttpRequest, object_id: str, what: str) -> HttpResponse:
        def view(request: HttpRequest) -> HttpResponse:
            if not self.may(request, what):
                raise PermissionDenied
            row = self._row(request, object_id)
            self._act(request, what, [row.pk])
            return HttpResponseRedirect(self.row_url("change", row.pk))

        return require_POST(view)(request)

    def edit_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show a message in a form; change and retry it."""
        if not self.may(request, "edit"):
            raise PermissionDenied
        row = self._row(request, object_id)
        back = self.row_url("change", row.pk)
        body = bytes(row.body or b"")
        text = _as_text(body)
        if text is None or row.state not in self.states_for["edit"]:
            why = _("This cannot be edited here: it is over, too large, or no text.")
            self.message_user(request, why, messages.ERROR)
            return HttpResponseRedirect(back)
        seen = hashlib.sha256(f"{row.headers}\0{row.content_type}\0".encode() + body).hexdigest()
        if request.method == "POST":
            form = EditForm(request.POST)
            if form.is_valid() and self._edit(request, row, form, seen, text):
                return HttpResponseRedirect(back)
        else:
            headers = json.dumps(json.loads(row.headers or "{}"), indent=2)
            shown = {"content_type": row.content_type, "headers": headers, "body": text}
            form = EditForm(initial={"seen": seen, **shown})
        context = {
            **self.admin_site.each_context(request),
            "title": _("Edit and retry"),
            "opts": self.model._meta,
            "original": row,
            "form": form,
            "back_url": back,
            "list_url": reverse(self.page_name("changelist"), current_app=self.admin_site.name),
        }
        return TemplateResponse(request, "inbox/admin/edit.html", context)

    def _edit(self, request: HttpRequest, row: Any, form: EditForm, seen: str, before: str) -> bool:
        found = form.cleaned_data
        if found["seen"] != seen:
            form.add_error(None, _("It has been changed meanwhile. Open it again."))
            return False
        body = found["body"]
        if "\r" not in before:  # browsers send line ends of their own
            body = body.replace("\r\n", "\n")
        message = Delivery(
            headers=found["headers"],
            body=body.encode(),
            content_type=found["content_type"] or None,
            topic=row.topic or "",
        )
        try:
            self.edit(row, message, by=request.user.get_username())
        except NotPossible as exc:
            form.add_error(None, str(exc))
            return False
        self._log(request, [row.pk], "Edited and retried; the original is kept.")
        self.message_user(request, _("It is edited and retried."), messages.SUCCESS)
        return True

    def edit(self, row: Any, message: Delivery, *, by: str) -> None:
        """Put a message in the place of a row's; raise NotPossible if it cannot be."""
        raise NotImplementedError

    def _row(self, request: HttpRequest, object_id: str) -> Any:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        return row


def originals_panel(row: Receipt | DeadLetter) -> Panel | None:
    """Return what a message was before people edited it, redacted; None if nobody has."""
    of = {"receipt": row} if isinstance(row, Receipt) else {"dead_letter": row}
    rows = [
        [
            each.edited_by,
            html.stamp(each.edited),
            payload.show_data(each.headers.encode(), "application/json"),
            payload.show_data(each.body, each.content_type),
        ]
        for each in Original.objects.filter(**of).order_by("-pk")[:10]
    ]
    if not rows:
        return None
    return Panel(
        title=_("Before it was edited"),
        headings=(_("Edited by"), _("When"), _("Headers"), _("Body")),
        rows=rows,
    )


def _as_text(body: bytes) -> str | None:
    if len(body) > EDITABLE:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
