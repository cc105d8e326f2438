"""A backend for tasks that a project has derived."""

from inbox.tasks import OutboxBackend


class Derived(OutboxBackend):
    """The same."""
