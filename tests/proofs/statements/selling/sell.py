"""Sell some numbers, each in a transaction that is held open for up to some seconds; print ids."""

import os
import random
import sys
import time

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "selling.settings"
django.setup()

from django.db import transaction  # noqa: E402
from selling.events import Sold  # noqa: E402

import outbox  # noqa: E402

first, count = int(sys.argv[1]), int(sys.argv[2])
seconds = float(sys.argv[3])
for number in range(first, first + count):
    with transaction.atomic():
        print(outbox.emit(Sold(number)).id)
        if seconds:
            time.sleep(random.uniform(0, seconds))
