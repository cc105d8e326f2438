"""What can be done about what failed, and links to the rows that tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from django.apps import apps
from django.db.models import Model
from django.http import HttpRequest
from django.utils.html import format_html_join

from outbox.admin_support import html
from outbox.admin_support.actions import acting_admin, to_change
from outbox.admin_support.html import Content
from outbox.extensions.flow import Mood, Stage
from outbox.flow.outline import Item

ROWS = 300
"""Rows of a model that a page has buttons for, at most."""

Row = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Mending:
    """Buttons by the label of a model and the primary key of a row."""

    request: HttpRequest
    buttons: Mapping[Row, Content]

    @classmethod
    def of(cls, request: HttpRequest, items: Iterable[Item], *, back: str) -> Mending:
        """Return what the user may do about what is shown and not well; one statement a model."""
        wanted: dict[str, dict[int, None]] = {}
        for stage in _unwell(items):
            wanted.setdefault(stage.of, {})[stage.row or 0] = None
        found: dict[Row, Content] = {}
        for label, numbers in wanted.items():
            found |= _buttons(request, apps.get_model(label), list(islice(numbers, ROWS)), back)
        return cls(request, found)

    def link(self, stage: Stage) -> Content:
        """Return the name of who made the stage, with a link to the row if the user may see it."""
        if stage.peer or stage.row is None:
            return stage.by
        return html.detail_link(self.request, apps.get_model(stage.of)(pk=stage.row), stage.by)

    def button(self, stage: Stage) -> Content:
        """Return the button that mends it, if there is one."""
        return self.buttons.get((stage.of, stage.row or 0), "") if not stage.peer else ""


def _unwell(items: Iterable[Item]) -> Iterable[Stage]:
    for item in items:
        if not item.is_fold:
            for stage in item.node.stages:
                if stage.mood is not Mood.DONE and stage.row is not None and not stage.peer:
                    yield stage


def _buttons(
    request: HttpRequest, model: type[Model], numbers: Sequence[int], back: str
) -> Mapping[Row, Content]:
    """Return the buttons of rows that put them right; what gives up is on the row's page."""
    admin = acting_admin(request, model)
    if admin is None:
        return {}
    rows = to_change(admin.get_queryset(request)).filter(pk__in=numbers)
    label = model._meta.label_lower
    return {
        (label, row.pk): format_html_join(
            " ",
            "{}",
            (
                (each.within_form(),)
                for each in admin.buttons(request, row, back=back)
                if each.action.look == "primary"
            ),
        )
        for row in rows.defer(*admin.list_defer)
    }
