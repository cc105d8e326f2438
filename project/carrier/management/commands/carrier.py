"""manage.py carrier: the carrier's web server."""

import argparse
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from project.demo.site import HOST, add_login


class Command(BaseCommand):
    help = "Migrate the carrier's database, make sure that one can log in, and serve."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("port", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        add_login()
        call_command("runserver", f"{HOST}:{options['port']}", use_reloader=False, skip_checks=True)
