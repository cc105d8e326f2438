"""The page about traffic: who carries what, and how fast; relay and inbox fill it."""

from django.utils.translation import gettext_lazy

from outbox.extensions.pages import Page, register_page

PAGE = Page(name="traffic", title=gettext_lazy("Traffic"), place=60)


def register() -> None:
    """Show the page, to whoever may see a section of it."""
    register_page(PAGE)
