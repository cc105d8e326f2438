"""The page about storage: how large everything is, and what keeps it from getting smaller."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import groupby

from django.db import router
from django.db.models import Model
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from outbox.admin_support import html
from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.database.clock import database_now
from outbox.database.limits import limited
from outbox.extensions.pages import Page, Section, register_page, register_section
from outbox.extensions.pruning import Pruner, pruners
from outbox.extensions.storage import register_tables, stored_models
from outbox.models import (
    Acknowledgement,
    Break,
    BucketTotal,
    Message,
    Reply,
    Request,
    Scheduled,
    Settlement,
)
from outbox.nouns import grouped
from outbox.reports.tables import Table, tables

PAGE = Page(name="storage", title=gettext_lazy("Storage"), place=70)
LIMIT = 1.0
"""Seconds that a statement may take."""
LATE = timedelta(hours=1)
"""How late the housekeeping may be: it comes round in its own time."""


def sizes(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield how large the tables are that the user may look at."""
    models = [each for each in stored_models() if html.may_view(request, each)]
    rows = [_table(each) for each in _sizes(models, using)]
    yield Panel(
        title=_("Tables"),
        headings=(
            _("Table"),
            _("Rows, about"),
            _("Bytes"),
            _("Bytes of indexes"),
            _("Dead rows, about"),
            _("Last vacuum"),
            _("Last analyze"),
        ),
        rows=rows,
        empty=_("This database does not tell."),
        note=_("Numbers of rows are estimates, as the statistics of the server have them.")
        if rows
        else "",
    )


def _sizes(models: Iterable[type[Model]], home: str) -> Iterator[Table]:
    def alias(model: type[Model]) -> str:
        return router.db_for_write(model)

    for using, some in groupby(sorted(models, key=alias), key=alias):
        with _limited(using, home):
            yield from tables(list(some), using)


def _table(each: Table) -> list[Content]:
    name = capfirst(str(each.model._meta.verbose_name_plural))
    dead: Content = html.DASH if each.dead is None else grouped(each.dead)
    if each.dead and each.dead > max(each.rows or 0, 10_000):
        dead = html.badge(dead, "dead")
    return [
        html.above(name, html.code(each.model._meta.db_table)),
        _("not known yet") if each.rows is None else grouped(each.rows),
        html.bytes_short(each.bytes),
        html.bytes_short(each.index_bytes),
        dead,
        html.stamp(each.vacuumed),
        html.stamp(each.analyzed),
    ]


def retention(request: HttpRequest, using: str) -> Iterator[Panel]:
    """Yield for each kind of row how long it is kept, how old the oldest is, and why it is kept."""
    yield Panel(
        title=_("Retention"),
        headings=(_("What"), _("Kept for"), _("Oldest"), _("State"), _("Why")),
        rows=[_pruner(each, using) for each in pruners()],
        empty=_("Nothing is ever deleted."),
        note=_("Relays and consumers delete what is older; so does manage.py outbox_prune."),
    )


def _limited(using: str, home: str) -> AbstractContextManager[None]:
    """Limit what another database is asked; what is asked of its own, a section limits itself."""
    return limited(using, None if using == home else LIMIT)


def _pruner(pruner: Pruner, home: str) -> list[Content]:
    using, keep = pruner.database(), pruner.window()
    with _limited(using, home):
        oldest = pruner.oldest(using) if pruner.oldest else None
        state, why = _kept(pruner, using, keep, oldest)
    return [
        html.name(_(pruner.name)),
        _("ever") if keep is None else html.span(keep),
        html.above(html.age(oldest), html.stamp(oldest)) if oldest else html.DASH,
        state,
        why,
    ]


def _kept(
    pruner: Pruner, using: str, keep: timedelta | None, oldest: datetime | None
) -> tuple[Content, Content]:
    """Return in a badge whether everything old is gone, and what keeps it."""
    if keep is None:
        return html.badge(_("grows for ever"), "pending"), ""
    before = database_now(using) - keep
    if pruner.oldest is None:
        return html.DASH, ""
    if oldest is None or oldest > before - LATE:
        return html.badge(_("well"), "published"), ""
    if pruner.holds is None or (
        pruner.count is not None and pruner.count(using, before=before, limit=1)
    ):
        text = _("It may be deleted, and nobody has done it yet: let a relay run, or outbox_prune.")
        return html.badge(_("late"), "pending"), text
    return html.badge(_("held back"), "pending"), "; ".join(map(str, pruner.holds(using)))


def register() -> None:
    """Show the page."""
    register_page(PAGE)
    register_tables(Message, Scheduled, Request, Reply, Settlement)
    register_tables(Acknowledgement, BucketTotal, Break)
    register_section(
        Section(
            page=PAGE.name,
            name="tables",
            title=gettext_lazy("Tables"),
            build=sizes,
            models=[Message],
            place=10,
            every=30.0,
            limit=LIMIT,
        )
    )
    register_section(
        Section(
            page=PAGE.name,
            name="retention",
            title=gettext_lazy("Retention"),
            build=retention,
            models=[Message],
            place=20,
            every=30.0,
            limit=LIMIT,
        )
    )
