"""The admin of dead letters."""

from collections.abc import Collection
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db import router
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from inbox import operator
from inbox.admin.actions import ActionableAdmin, originals_panel, show_body
from inbox.admin.states import LetterStateFilter, ReasonFilter, badge
from inbox.delivery import Delivery
from inbox.ledger.masking import masked
from inbox.models import DeadLetter, Receipt
from inbox.operations import OF_LETTERS
from inbox.states import State
from outbox.admin_support import html, payload
from outbox.admin_support.html import Content
from outbox.admin_support.row_actions import RowAction, discard_and_restore
from outbox.extensions.pages import failure_link, flow_link
from outbox.nouns import grouped


@admin.register(DeadLetter)
class DeadLetterAdmin(ActionableAdmin):
    """Dead letters, newest first, with what came in shown byte for byte."""

    list_display = (
        "shown_reason",
        "shown_state",
        "group",
        "shown_type",
        "shown_error",
        "happened",
    )
    list_filter = (LetterStateFilter, ReasonFilter)
    list_defer = ("headers", "body")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("shown_reason", "shown_state"),
                    "error_in_full",
                    ("group", "handler"),
                    "happened",
                )
            },
        ),
        (_("As received"), {"fields": (("topic", "content_type"), "shown_headers", "shown_body")}),
        (_("Message"), {"fields": (("type", "source"), "message_id", "shown_digest")}),
    )

    row_actions = (
        RowAction(
            verb="retry",
            title=_("Retry"),
            look="primary",
            said=ngettext_lazy(
                "%(number)s %(noun)s was received again, and has left these receipts",
                "%(number)s %(noun)s were received again, and have left these receipts",
                "count",
            ),
        ),
        *discard_and_restore(
            _(
                "No handler gets it, not even if it comes again. Restore takes it back, until "
                "retention deletes what is discarded."
            )
        ),
    )
    operations = OF_LETTERS
    example_fields = ("shown_reason", "shown_state", "shown_type", "group", "shown_error")
    untouched: ClassVar[dict[str, Content]] = {
        **ActionableAdmin.untouched,
        "retry": _("still of no use, as its error says, or in work at the moment, or only a head"),
    }

    def can(self, row: DeadLetter, verb: str) -> bool:
        return super().can(row, verb) and (verb in ("discard", "restore") or row.is_whole)

    def tell_done(self, request: HttpRequest, action: RowAction, changed: Collection[int]) -> None:
        if action.verb != "retry":
            super().tell_done(request, action, changed)
            return
        found = operator.receipts_of(changed, using=router.db_for_write(Receipt))
        text = _("%(done)s: %(states)s.") % {
            "done": action.tell(self.model, len(changed)),
            "states": ", ".join(
                f"{grouped(count)} {State(state).label}" for state, count in sorted(found.items())
            )
            or _("none that can be told"),
        }
        good = set(found) <= {State.PROCESSED.value}
        self.message_user(request, text, messages.SUCCESS if good else messages.WARNING)

    def tell_edited(self, request: HttpRequest, number: int) -> None:
        letter = DeadLetter.objects.using(router.db_for_write(DeadLetter)).get(pk=number)
        if letter.state == State.PROCESSED:
            self.tell_done(request, self.row_actions[0], [number])
        else:
            text = _("It is edited, and still of no use: %(error)s") % {
                "error": masked(letter.error)
            }
            self.message_user(request, text, messages.WARNING)

    def edit(self, row: DeadLetter, message: Delivery, *, by: str) -> None:
        operator.edit_letter(row.pk, message, by=by, using=router.db_for_write(DeadLetter))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        letter = context["original"]
        panel = originals_panel(letter)
        context["links"] = [
            flow_link(request, letter.message_id, _("Show the whole flow")),
            failure_link(request, "letters", letter.pk, _("Show what fails alike"))
            if letter.state == State.DEAD
            else "",
        ]
        context["panels"] = [panel] if panel is not None else []
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("state"))
    def shown_state(self, letter: DeadLetter) -> str:
        return badge(letter)

    @admin.display(description=_("reason"))
    def shown_reason(self, letter: DeadLetter) -> str:
        return letter.get_reason_display()

    @admin.display(description=_("type and handler"))
    def shown_type(self, letter: DeadLetter) -> str:
        found = html.name(letter.type) if letter.type else html.DASH
        return html.above(found, html.name(letter.handler)) if letter.handler else found

    @admin.display(description=_("error"))
    def shown_error(self, letter: DeadLetter) -> str:
        return html.line(masked(letter.error))

    @admin.display(description=_("error"))
    def error_in_full(self, letter: DeadLetter) -> Content:
        return html.block(masked(letter.error)) if letter.error else html.DASH

    @admin.display(description=_("digest"))
    def shown_digest(self, letter: DeadLetter) -> str:
        return letter.name_of_content

    @admin.display(description=_("received"))
    def happened(self, letter: DeadLetter) -> str:
        return html.stamp(letter.received)

    @admin.display(description=_("headers"))
    def shown_headers(self, letter: DeadLetter) -> Content:
        return payload.show_data(letter.headers.encode(), "application/json")

    @admin.display(description=_("body"))
    def shown_body(self, letter: DeadLetter) -> Content:
        shown = show_body(letter)
        if letter.is_whole:
            return shown
        note = _("Only the head of %(size)s is kept; SHA-256 of all of them: %(sha256)s")
        about = note % {"size": html.size(letter.size or 0), "sha256": letter.sha256}
        return format_html("<p>{}</p>{}", about, shown)
