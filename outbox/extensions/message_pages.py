"""The seam between the pages of messages and the apps that know more about a message.

The relay knows whether it was published, the inbox whether it was handled; the outbox knows
neither of them. Each registers a MessageExtension in its own admin module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from django.http import HttpRequest

from outbox.admin_support.blocks import Panel
from outbox.admin_support.html import Content
from outbox.admin_support.timeline import Step

if TYPE_CHECKING:
    from django.contrib.admin import SimpleListFilter

    from outbox.models import Message


__all__ = ["MessageExtension", "Panel", "Step", "extend_messages", "message_extensions"]


class MessageExtension:
    """What an app adds to the admin pages of messages; override what it has to say.

    `column` is the heading of a column in the list, "" for none. `filters` go beside the list.
    """

    column: Content = ""
    filters: Sequence[type[SimpleListFilter]] = ()

    def cells(self, messages: Sequence[Message], using: str) -> Mapping[int, Content]:
        """Return the column's content by position, for all messages of a page at once."""
        return {}

    def steps(self, message: Message, request: HttpRequest) -> Sequence[Step]:
        """Return what became of a message, for its timeline, without what the user may not see."""
        return ()

    def panels(self, message: Message, request: HttpRequest) -> Sequence[Panel]:
        """Return tables for the page of one message; leave out what the user may not see."""
        return ()


_extensions: list[MessageExtension] = []


def extend_messages(extension: MessageExtension) -> None:
    """Show an extension on the pages of messages."""
    _extensions.append(extension)


def message_extensions() -> Sequence[MessageExtension]:
    """Return what apps have added, in the order of INSTALLED_APPS."""
    return tuple(_extensions)
