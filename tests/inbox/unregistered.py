"""A module with a task that nothing imports by itself; whoever does leaves a trace."""

import os
from pathlib import Path

import django

from tests.testapp.models import Effect

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

if trace := os.environ.get("TEST_TRACE"):
    Path(trace).write_text(f"imported by {os.getpid()}")


@task
def act() -> None:
    Effect.objects.create(key="", number=13, message_id="", handler="act")


class Holder:
    """Has a task as an attribute."""

    act = act
