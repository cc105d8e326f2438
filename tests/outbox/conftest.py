"""Fixtures for the tests of the producer."""

from collections.abc import Iterator

import pytest
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from outbox import wakeup


@pytest.fixture(autouse=True)
def _no_recent_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget notifications of the test before, which could stand in for this one's."""
    monkeypatch.setattr(wakeup, "_last_sent", {})


@pytest.fixture(scope="session")
def _tables(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    from tests.outbox.models import MODELS  # noqa: PLC0415 - once the apps are loaded

    with django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
        yield
        with connection.schema_editor() as editor:
            for model in reversed(MODELS):
                editor.delete_model(model)


@pytest.fixture
def tables(_tables: None, transactional_db: None) -> Iterator[None]:
    """The tables of tests/outbox/models.py, empty, and transactions that really commit."""
    from tests.outbox.models import MODELS  # noqa: PLC0415 - once the apps are loaded

    yield
    for model in reversed(MODELS):
        model._base_manager.all().delete()


@pytest.fixture
def other_database() -> str:
    """The alias of a second database; tests that use it must declare it in django_db()."""
    return "other"
