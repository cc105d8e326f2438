"""The admin of open requests: what somebody has to answer, and a form to do it by hand."""

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from inbox.models import OpenRequest
from inbox.replies.by_hand import NoReply, answer_with, fields_of, read_reply, replies_of
from outbox.admin_support import html, payload
from outbox.admin_support.actions import CONFIRMED, ActingAdmin
from outbox.admin_support.row_actions import Button, RowAction
from outbox.exceptions import OutboxError
from outbox.extensions.pages import flow_link
from outbox.operations import MAX_REASON, carry_out

ANSWER = RowAction(
    verb="answer",
    title=_("Answer"),
    said="",
    look="primary",
    warning=_("The reply is sent to whoever asked, and cannot be taken back."),
)
MORE = "more"
"""The field of the button that leads from the question back to the form."""
MAX_DATA = 1024 * 1024
"""Characters of a reply."""


class AnswerForm(forms.Form):
    """A reply to an open request: which of the declared ones, its data, and why."""

    type = forms.ChoiceField(label=_("Reply"))
    content = forms.CharField(
        label=_("Data"),
        max_length=MAX_DATA,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "class": "vLargeTextField"}),
    )
    reason = forms.CharField(
        label=_("Why (optional)"),
        max_length=MAX_REASON,
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text=_("Kept in the history, with your name."),
    )

    def __init__(self, row: OpenRequest, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._row = row
        self.reply: object = None
        replies = replies_of(row)
        shown = {name: fields_of(each) for name, each in replies.items()}
        self.fields["type"].choices = [(name, name) for name in replies]  # type: ignore[attr-defined]
        self.fields["content"].help_text = _("A JSON object: %(fields)s") % {
            "fields": "; ".join(
                f"{name} {{{', '.join(f'{field}: {kind}' for field, kind in fields.items())}}}"
                for name, fields in shown.items()
            )
        }
        first = next(iter(shown.values()), {})
        self.fields["content"].initial = json.dumps(dict.fromkeys(first), indent=2)

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if "type" in found and "content" in found:
            try:
                self.reply = read_reply(self._row, found["type"], found["content"])
            except NoReply as exc:
                self.add_error("content", str(exc))
        return found


@admin.register(OpenRequest)
class OpenRequestAdmin(ActingAdmin):
    """Open requests, newest first."""

    has_history = False
    list_display = ("shown_type", "opened", "until", "handler", "source", "shown_id")
    list_defer = ("data",)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("type", "version"),
                    ("opened", "until"),
                    ("source", "handler"),
                    "shown_message",
                )
            },
        ),
        (_("What is asked"), {"fields": ("shown_data",)}),
    )

    def can(self, row: Any, verb: str) -> bool:
        return bool(replies_of(row))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.answer_view)
        name = self.page_name("answer").removeprefix("admin:")
        return [path("<path:object_id>/answer/", view, name=name), *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any, *, back: str = "") -> list[Button]:
        found = super().buttons(request, row, back=back)
        if self.can(row, "answer") and self.may(request, "answer"):
            found.append(Button(ANSWER, self.row_url("answer", row.pk)))
        return found

    def answer_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what is asked, and a form for the reply; ask before it is sent."""
        if not self.may(request, "answer"):
            raise PermissionDenied
        row = self.row(request, object_id)
        back = self.row_url("change", row.pk)
        if not self.can(row, "answer"):
            why = _("Its type is not declared here, so nobody knows what its reply is.")
            self.message_user(request, why, messages.ERROR)
            return HttpResponseRedirect(back)
        asks = False
        if request.method == "POST":
            form = AnswerForm(row, request.POST)
            if form.is_valid() and CONFIRMED in request.POST:
                if self._answer(request, row, form):
                    return HttpResponseRedirect(self.list_url())
            else:
                asks = form.is_valid() and MORE not in request.POST
        else:
            form = AnswerForm(row)
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": _("Answer"),
            "opts": self.model._meta,
            "original": row,
            "asked": self.shown_data(row),
            "form": form,
            "asks": asks,
            "answer": form.data.get("content", "") if asks else "",
            "warning": ANSWER.warning,
            "confirmed": CONFIRMED,
            "more": MORE,
            "back_url": back,
            "list_url": self.list_url(),
        }
        return TemplateResponse(request, "inbox/admin/answer.html", context)

    def _answer(self, request: HttpRequest, row: OpenRequest, form: AnswerForm) -> bool:
        operation, reason = answer_with(form.reply), form.cleaned_data["reason"]
        try:
            changed = carry_out(operation, [row.pk], user=request.user, reason=reason)
        except OutboxError as exc:  # too large, say
            form.add_error("content", str(exc))
            return False
        if changed:
            self.message_user(request, _("The reply is on its way."), messages.SUCCESS)
        else:
            text = _("It is not open any more: it was answered or cancelled meanwhile.")
            self.message_user(request, text, messages.WARNING)
        return True

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        row = context["original"]
        context["links"] = [flow_link(request, row.correlation_id, _("Show the whole flow"))]
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("type"))
    def shown_type(self, row: OpenRequest) -> str:
        return html.name(row.type)

    @admin.display(description=_("opened"))
    def opened(self, row: OpenRequest) -> str:
        return html.stamp(row.opened_at)

    @admin.display(description=_("deadline"))
    def until(self, row: OpenRequest) -> str:
        return html.until(row.expires_at)

    @admin.display(description=_("message id"))
    def shown_id(self, row: OpenRequest) -> str:
        return html.ident(row.message_id)

    @admin.display(description=_("message id"))
    def shown_message(self, row: OpenRequest) -> str:
        return html.code(row.message_id)

    @admin.display(description=_("data"))
    def shown_data(self, row: OpenRequest) -> Any:
        return payload.show_data(bytes(row.data), row.content_type)
