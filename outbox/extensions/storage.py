"""The port of the page about storage: whose tables it shows."""

from collections.abc import Sequence

from django.db.models import Model

_models: list[type[Model]] = []


def register_tables(*models: type[Model]) -> None:
    """Show the tables of these models on the page about storage."""
    _models.extend(model for model in models if model not in _models)


def stored_models() -> Sequence[type[Model]]:
    """Return the models whose tables are shown, in the order of registration."""
    return tuple(_models)
