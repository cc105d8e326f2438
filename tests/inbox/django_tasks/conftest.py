"""Fixtures for the tests of Django's tasks."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from inbox import RetryPolicy
from tests.inbox import task_functions as tasks
from tests.inbox.django_tasks.support import backend


@pytest.fixture(autouse=True)
def _backend() -> Iterator[None]:
    with override_settings(TASKS={"default": backend()}):
        yield
    tasks.fail_times = 0


@pytest.fixture
def thrice() -> Iterator[None]:
    """Tasks are tried three times, without long pauses."""
    policy = RetryPolicy(attempts=3, base=0.001, cap=0.001)
    with override_settings(TASKS={"default": backend(RETRY_POLICY=policy)}):
        yield
