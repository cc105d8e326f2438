"""Ask for the squares of some numbers, each in a transaction; print the ids of the requests."""

import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "asking.settings"
django.setup()

from datetime import timedelta  # noqa: E402

from asking.events import Square  # noqa: E402
from django.db import transaction  # noqa: E402

import outbox  # noqa: E402

first, count, seconds = (int(each) for each in sys.argv[1:])
for number in range(first, first + count):
    with transaction.atomic():
        print(outbox.ask(Square(number), within=timedelta(seconds=seconds)).id)
