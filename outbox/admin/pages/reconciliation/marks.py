"""How a span of time stands, as a mark that no colour is needed for."""

from django.utils.translation import gettext_lazy as _

from outbox.admin_support.html import Content
from outbox.statements.reading import Step

MARKS = {
    Step.NOTHING: "",
    Step.RUNNING: "…",
    Step.CLOSED: "·",
    Step.IN_STEP: "=",
    Step.ACCEPTED: "≈",
    Step.IN_TRANSIT: "→",
    Step.BROKEN: "≠",
}
LABELS: dict[Step, Content] = {
    Step.NOTHING: _("nothing emitted"),
    Step.RUNNING: _("not closed"),
    Step.CLOSED: _("closed, not compared"),
    Step.IN_STEP: _("in step"),
    Step.ACCEPTED: _("accepted"),
    Step.IN_TRANSIT: _("in transit"),
    Step.BROKEN: _("break"),
}
LOOKS = {
    Step.NOTHING: "skipped",
    Step.RUNNING: "skipped",
    Step.CLOSED: "skipped",
    Step.IN_STEP: "processed",
    Step.ACCEPTED: "discarded",
    Step.IN_TRANSIT: "pending",
    Step.BROKEN: "dead",
}
"""The colours of badges, by the states whose they are."""
