"""manage.py outbox_openapi: the description of the HTTP API, for generators of clients."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Print the HTTP API as OpenAPI describes it, in YAML. Needs the extra drf."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--prefix",
            default="api/",
            help="where the URLconf has outbox.api.urls (%(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            from outbox.api.document import as_yaml, document  # noqa: PLC0415 - of an extra
        except ImportError:
            raise CommandError(
                "The API needs Django REST framework: pip install 'django-outbox-inbox[drf]'"
            ) from None
        self.stdout.write(as_yaml(document(options["prefix"])), ending="")
