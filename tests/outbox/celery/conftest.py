"""Fixtures for the tests of Celery tasks."""

from tests.outbox.celery.script import script  # noqa: F401 - a fixture
