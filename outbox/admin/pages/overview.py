"""The overview: is it well? What is late, and what the doctor finds, with what to do about it."""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.apps import apps
from django.http import HttpRequest
from django.utils import translation
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.admin_support import html
from outbox.admin_support.blocks import Figure, Figures, Panel
from outbox.admin_support.html import Content
from outbox.extensions.diagnosis import Finding, Level, examine, told_of
from outbox.extensions.pages import Page, Section, register_page, register_section, visible_url
from outbox.models import Message, Scheduled
from outbox.telemetry.gauges import COUNTED, LATE, SCHEDULED, read

PAGE = Page(name="overview", title=gettext_lazy("Overview"), place=10)
LATE_SECONDS = 10.0
"""How late a scheduled message may be."""
BADGES = {
    Level.ERROR: "dead",
    Level.WARNING: "pending",
    Level.INFO: "skipped",
    Level.OK: "published",
}
LEVELS = {
    Level.ERROR: gettext_lazy("error"),
    Level.WARNING: gettext_lazy("warning"),
    Level.INFO: gettext_lazy("info"),
    Level.OK: gettext_lazy("ok"),
}


def scheduled(request: HttpRequest, using: str) -> Iterator[Figures]:
    """Yield how late what is due has not been delivered."""
    values = {each.gauge: each.value for each in read(using)}
    late, count = values[LATE], values[SCHEDULED]
    yield Figures(
        title=_("Scheduled"),
        figures=[
            Figure(
                label=_("Scheduled late"),
                value=html.span(timedelta(seconds=late)) if late else _("nothing"),
                note=_("%(count)s scheduled, due or not") % {"count": html.many(count, COUNTED)},
                look="bad" if late > LATE_SECONDS else "well",
                url=html.list_url(request, Scheduled, due="late"),
            )
        ],
    )


def findings(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield what the doctor finds, the worst first; and what answers and is well."""
    order = list(Level)
    with translation.override("en"):  # as commands and docs have them, and no mixture
        every = examine(using)
    found = [each for each in every if _may_see(request, each)]
    found.sort(key=lambda finding: -order.index(finding.level))
    left_out = len(every) - len(found)
    yield Panel(
        title=_("Findings"),
        headings=(_("Level"), _("What"), _("What to do")),
        rows=_rows(request, [each for each in found if each.level is not Level.OK]),
        empty=_("The doctor finds nothing."),
        note=_("Findings about what you may not view are left out.") if left_out else "",
    )
    yield Panel(
        title=_("What is well"),
        headings=(_("Level"), _("What")),
        rows=[row[:2] for row in _rows(request, [e for e in found if e.level is Level.OK])],
        empty=_("Nothing."),
        folded=True,
    )


def _may_see(request: HttpRequest, finding: Finding) -> bool:
    """Tell whether the user may view all of which a finding may tell."""
    return all(html.may_view(request, model) for model in told_of(finding))


def _rows(request: HttpRequest, found: Sequence[Finding]) -> Sequence[Sequence[Content]]:
    return [
        [
            html.badge(LEVELS[each.level], BADGES[each.level]),
            format_html("<strong>{}</strong> {}", _title(request, each), each.text),
            each.hint,
        ]
        for each in found
    ]


def _title(request: HttpRequest, finding: Finding) -> Content:
    """Return the title, with a link to what shows it, if there is such a page for the user."""
    name, _slash, rest = finding.page.partition("/")
    label, _mark, query = finding.rows.partition("?")
    if name:
        url = visible_url(request, name, rest)
    else:
        url = html.list_url(request, apps.get_model(label), q=query) if label else ""
    return format_html('<a href="{}">{}</a>', url, finding.title) if url else finding.title


def register() -> None:
    """Show the overview."""
    register_page(PAGE)
    register_section(
        Section(
            page=PAGE.name,
            name="scheduled",
            title=gettext_lazy("Scheduled"),
            build=scheduled,
            models=[Scheduled],
            place=12,
            narrow=True,
        )
    )
    # It asks the brokers, and each may let it wait.
    register_section(
        Section(
            page=PAGE.name,
            name="findings",
            title=gettext_lazy("Findings"),
            build=findings,
            models=[Message],
            place=20,
            every=30.0,
            limit=None,
            lazy=True,
        )
    )
