"""manage.py service: make a service ready to start."""

from io import StringIO
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from project.demo.site import add_login


class Command(BaseCommand):
    help = (
        "Migrate the database of the service that SERVICE names, make sure that one can log in, "
        "and begin to reconcile what it emits."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        add_login()
        call_command("reconcile", local=True, stdout=StringIO())
