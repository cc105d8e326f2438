"""What a receipt keeps of its attempts, on its page."""

from datetime import datetime

from django.utils.translation import gettext_lazy as _

from inbox.ledger import attempts
from inbox.ledger.masking import masked
from inbox.models import Receipt
from outbox.admin_support import html
from outbox.admin_support.html import DASH, Content
from outbox.extensions.message_pages import Panel


def attempts_panel(receipt: Receipt) -> Panel | None:
    """Return the last attempts, the latest first; None if nothing has ever failed."""
    rows: list[list[Content]] = [
        [
            _moment(each.at),
            DASH if each.seconds is None else f"{each.seconds:.3f} s",
            html.code(each.process) if each.process else DASH,
            masked(str(each.error)) if each.error else _("processed"),
        ]
        for each in reversed(attempts.read(receipt.last_attempts))
    ]
    if not rows:
        return None
    headings = (_("Ended"), _("Took"), _("Process"), _("Error"))
    return Panel(title=_("Last attempts"), headings=headings, rows=rows)


def traceback_panel(receipt: Receipt) -> Panel | None:
    """Return the traceback of the error; None if it has none."""
    if not receipt.traceback:
        return None
    rows = [[html.block(masked(receipt.traceback))]]
    return Panel(title=_("Traceback"), headings=(_("Of the last attempt"),), rows=rows)


def _moment(at: str) -> Content:
    try:
        return html.stamp(datetime.fromisoformat(at))
    except ValueError:
        return DASH
