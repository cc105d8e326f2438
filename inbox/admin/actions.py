"""What staff can do about receipts and dead letters; editing a message has a form of its own.

Each takes a permission of its own, and is written to the log of the admin.
"""

import json
from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, When
from django.db.models.functions import Length
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from inbox.delivery import Delivery
from inbox.models import DeadLetter, Original, Receipt
from inbox.operations import EDITED, as_text, seen_as
from inbox.operator import NotPossible
from inbox.states import CLOSED
from outbox.admin_support import html, payload
from outbox.admin_support.actions import CONFIRMED, ActingAdmin
from outbox.admin_support.diff import show_diff
from outbox.admin_support.html import Content
from outbox.admin_support.row_actions import Button, RowAction
from outbox.extensions.message_pages import Panel
from outbox.operations import MAX_REASON, carry_out_once, name_of

EDIT = RowAction(
    verb="edit",
    title=_("Edit and retry"),
    said="",
    warning=_("The message is shown as it is, secrets included."),
)

MORE = "more"
"""The field of the button that leads from the question back to the form."""


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
    reason = forms.CharField(
        label=_("Why (optional)"),
        max_length=MAX_REASON,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("Kept in the history, with your name."),
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

    untouched: ClassVar[dict[str, Content]] = {
        "retry": _("in work at the moment"),
        "discard": _("in work at the moment"),
        "restore": _("in work at the moment, or its key has gone past it"),
    }
    """Why it was not done to what is in such a state still."""

    def can(self, row: Any, verb: str) -> bool:
        # It is edited to be retried.
        return super().can(row, "retry" if verb == "edit" else verb)

    def why_left(self, action: RowAction, state: str) -> Content:
        if state in self.operations[action.verb].states:
            return self.untouched[action.verb]
        if state in CLOSED:
            return _("that is over")
        if action.verb == "restore":
            return _("nobody has discarded it")
        return _("it goes on by itself when what it waits for is processed")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).defer("body")  # see show_body()

    # --- Edit and retry ------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.edit_view)
        name = self.page_name("edit").removeprefix("admin:")
        return [path("<path:object_id>/edit/", view, name=name), *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any, *, back: str = "") -> list[Button]:
        found = super().buttons(request, row, back=back)
        if self.can(row, "edit") and self.may(request, "edit"):
            found.insert(1, Button(EDIT, self.row_url("edit", row.pk)))
        return found

    def edit_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show a message in a form; change and retry it."""
        if not self.may(request, "edit"):
            raise PermissionDenied
        row = self.row(request, object_id)
        back = self.row_url("change", row.pk)
        body = b""
        if self.can(row, "edit"):
            # Where the row was read, which is where it is written: a router might name a replica.
            try:
                row.refresh_from_db(using=row._state.db, fields=["body"])
            except self.model.DoesNotExist:
                raise Http404 from None  # deleted a moment ago by retention
            body = bytes(row.body or b"")
        text = as_text(body)
        if text is None or not self.can(row, "edit"):
            why = _("This cannot be edited here: it is over, too large, or no text.")
            self.message_user(request, why, messages.ERROR)
            return HttpResponseRedirect(back)
        seen = seen_as(row, body)
        headers = json.dumps(json.loads(row.headers or "{}"), indent=2)
        before = {"content_type": row.content_type, "headers": headers, "body": text}
        changes: list[tuple[Content, Content]] = []
        if request.method == "POST":
            form = EditForm(request.POST)
            if form.is_valid() and CONFIRMED in request.POST:
                if self._edit(request, row, form, seen, text):
                    return HttpResponseRedirect(back)
            elif form.is_valid() and MORE not in request.POST:
                changes = _changes(before, form)
        else:
            form = EditForm(initial={"seen": seen, **before})
        context = {
            "changes": changes,
            "confirmed": CONFIRMED,
            "more": MORE,
            **self.admin_site.each_context(request),
            "title": _("Edit and retry"),
            "opts": self.model._meta,
            "original": row,
            "form": form,
            "back_url": back,
            "list_url": self.list_url(),
        }
        return TemplateResponse(request, "inbox/admin/edit.html", context)

    def _edit(self, request: HttpRequest, row: Any, form: EditForm, seen: str, before: str) -> bool:
        found = form.cleaned_data
        if found["seen"] != seen:
            form.add_error(None, _("It has been changed meanwhile. Open it again."))
            return False
        body = _own_line_ends(found["body"], before)
        message = Delivery(
            headers=found["headers"],
            body=body.encode(),
            content_type=found["content_type"] or None,
            topic=row.topic or "",
        )
        meta = self.model._meta
        try:
            carry_out_once(
                partial(self.edit, row, message, by=name_of(request.user)),
                row,
                permission=f"{meta.app_label}.edit_{meta.model_name}",
                written=EDITED,
                user=request.user,
                reason=found["reason"],
            )
        except NotPossible as exc:
            form.add_error(None, str(exc))
            return False
        self.tell_edited(request, row.pk)
        return True

    def tell_edited(self, request: HttpRequest, number: int) -> None:
        """Say what came of a message that was edited, as far as that is known."""
        text = _("It is edited, and due: a consumer will handle it.")
        self.message_user(request, text, messages.SUCCESS)

    def edit(self, row: Any, message: Delivery, *, by: str) -> None:
        """Put a message in the place of a row's; raise NotPossible if it cannot be."""
        raise NotImplementedError


def show_body(row: Receipt | DeadLetter) -> Content:
    """Return the body of a row for its page; one that is too large to show is not even read."""
    rows: Any = type(row)._default_manager.using(row._state.db).annotate(length=Length("body"))
    shown = Case(When(length__lte=payload.READ, then="body"))
    found = rows.values_list("length", shown).filter(pk=row.pk).first()
    length, body = found or (None, None)  # deleted a moment ago by retention
    if length is None:
        return html.DASH
    content_type = row.content_type or ""
    if body is None:
        return payload.too_large(length, content_type)
    return payload.show_data(body, content_type)


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


def _changes(before: dict[str, str | None], form: EditForm) -> list[tuple[Content, Content]]:
    """Return what an edit would change, each part of the message with its difference."""
    found = form.cleaned_data
    headers = json.dumps(found["headers"], indent=2)
    body = _own_line_ends(found["body"], before["body"] or "")
    parts = (
        ("content_type", before["content_type"] or "", found["content_type"]),
        ("headers", before["headers"] or "", headers),
        ("body", before["body"] or "", body),
    )
    return [(form.fields[name].label or name, show_diff(old, new)) for name, old, new in parts]


def _own_line_ends(body: str, before: str) -> str:
    """Return a body with the line ends that it had: browsers send their own."""
    return body if "\r" in before else body.replace("\r\n", "\n")
