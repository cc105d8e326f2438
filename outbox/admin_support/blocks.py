"""What a page is made of: panels, numbers and charts, each with the template that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import ClassVar, Literal

from outbox.admin_support.html import Content

Look = Literal["well", "open", "bad", "quiet"]
"""How something is to be seen: as well, as not over, as waiting for a person, or as no news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A table with a title, or the text `empty` if it has no rows.

    A `folded` one shows its title and the number of rows until somebody unfolds it.
    """

    template: ClassVar[str] = "outbox/admin/panel.html"

    title: Content
    headings: Sequence[Content] = ()
    rows: Sequence[Sequence[Content]] = field(default=())
    empty: Content = ""
    note: Content = ""
    folded: bool = False

    @property
    def labelled(self) -> list[list[tuple[Content, Content]]]:
        """The rows, each cell with its heading, which a narrow screen shows beside it."""
        return [list(zip_longest(self.headings, row, fillvalue="")) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, in words such as "12" or "3 min", with what it is about; perhaps a link."""

    label: Content
    value: Content
    note: Content = ""
    look: Look = "quiet"
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Numbers beside each other."""

    template: ClassVar[str] = "outbox/admin/figures.html"

    title: Content
    figures: Sequence[Figure]
    note: Content = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawing as SVG, and a table with what it shows for who cannot see it."""

    template: ClassVar[str] = "outbox/admin/picture.html"

    title: Content
    svg: Content
    table: Panel | None = None
    note: Content = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apology:
    """Stands where something could not be told, and says why."""

    template: ClassVar[str] = "outbox/admin/apology.html"

    title: Content
    text: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """Stands where something will be read, by the script of the page or by its link."""

    template: ClassVar[str] = "outbox/admin/later.html"

    title: Content
    url: str


Block = Panel | Figures | Picture | Apology | Later
